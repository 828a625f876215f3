"""The models of the benchmarks, with a batch for each.

KerasHub is imported where it is used, because `benchmarks.gpu` runs without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from rdrop_keras import RDropModel
from reproduce.models.sizes import TranslationSizes
from reproduce.models.translation import Transformer

RATE = 0.1


@dataclasses.dataclass(frozen=True)
class Case:
    """A model and its batch.

    Attributes:
        plain: A function that returns the plain Keras model.
        build: A function that returns the model with R-Drop.
        twin: A function that returns the PyTorch module with the weights of the
            plain model.
        x: The inputs, of any structure.
        y: The class ids.
        chunks: Whether its vocabulary is large enough for chunks.
        shares: Whether enough of the model precedes its first dropout to share.
        one_call: Whether the paper's authors run such a model once on the
            repeated batch rather than twice.
        label_smoothing: The label smoothing of the task loss.
    """

    plain: Callable[[], keras.Model]
    build: Callable[[], keras.Model]
    twin: Callable[[list[np.ndarray]], Any]
    x: Any
    y: np.ndarray
    chunks: bool = False
    shares: bool = False
    one_call: bool = False
    label_smoothing: float = 0.0


def transformer(
    vocabulary: int,
    configuration: TranslationSizes | None = None,
    batch: int = 16,
    time: int = 32,
    rate: float = RATE,
    label_smoothing: float = 0.0,
) -> Case:
    """Returns an encoder and decoder, by default of 2+2 layers, width 256."""
    random = np.random.default_rng(0)
    if configuration is None:
        configuration = TranslationSizes(
            num_layers=2,
            width=256,
            feed_forward=1024,
            num_heads=4,
            dropout=rate,
            attention_dropout=rate,
            activation_dropout=rate,
        )

    def ids() -> np.ndarray:
        return random.integers(4, vocabulary, (batch, time)).astype("int32")

    def build() -> RDropModel:
        return Transformer(vocabulary, **dataclasses.asdict(configuration))

    def plain() -> keras.Model:
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in ("source_ids", "target_ids")
        }
        return keras.Model(inputs, build()(inputs))

    def twin(weights):
        from benchmarks.torch_models import TransformerTwin

        return TransformerTwin(weights, configuration)

    return Case(
        plain,
        build,
        twin,
        {"source_ids": ids(), "target_ids": ids()},
        ids(),
        chunks=True,
        one_call=True,
        label_smoothing=label_smoothing,
    )


def bert(
    layers: int = 4,
    width: int = 256,
    vocabulary: int = 8000,
    batch: int = 16,
    time: int = 64,
    rate: float = RATE,
) -> Case:
    """Returns BERT with a classifier, by default of 4 layers, width 256."""
    random = np.random.default_rng(0)
    shape, heads = (batch, time), 4

    def plain() -> keras.Model:
        import keras_hub

        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=vocabulary,
            num_layers=layers,
            num_heads=heads,
            hidden_dim=width,
            intermediate_dim=4 * width,
            dropout=rate,
            max_sequence_length=time,
        )
        return keras_hub.models.BertTextClassifier(
            backbone, num_classes=3, preprocessor=None, dropout=rate
        )

    def twin(weights):
        from benchmarks.torch_models import BertTwin

        return BertTwin(weights, layers, heads, rate)

    x = {
        "token_ids": random.integers(1, vocabulary, shape).astype("int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, "int32"),
    }
    y = random.integers(0, 3, batch).astype("int32")
    return Case(plain, lambda: RDropModel.from_model(plain()), twin, x, y)


def vit(
    layers: int = 4, width: int = 192, batch: int = 16, rate: float = RATE
) -> Case:
    """Returns a ViT for 32 x 32 images in 4 x 4 patches."""
    heads = 3

    def plain() -> keras.Model:
        import keras_hub

        return keras_hub.models.ViTImageClassifier(
            _vit_backbone(layers, heads, width, rate),
            num_classes=100,
            preprocessor=None,
        )

    def twin(weights):
        from benchmarks.torch_models import ViTTwin

        return ViTTwin(weights, layers, heads, rate, head_rate=0.0)

    return Case(
        plain,
        lambda: RDropModel.from_model(plain()),
        twin,
        *_pictures(batch, 100),
        shares=True,
    )


def frozen(
    layers: int = 4, width: int = 192, batch: int = 16, rate: float = RATE
) -> Case:
    """Returns a frozen ViT with a trainable head.

    The ViT has no dropout, as in KerasHub's presets. With a nonzero rate it
    would drop units in `fit` even if it is called with `training=False`,
    because functional models pass their own `training` down (Keras 3.15).
    """
    heads, head_rate = 3, 2 * rate

    def plain() -> keras.Model:
        backbone = _vit_backbone(layers, heads, width, rate=0.0)
        backbone.trainable = False
        inputs = keras.Input((32, 32, 3))
        x = backbone(inputs)[:, 0]
        x = keras.layers.Dropout(head_rate)(x)
        return keras.Model(inputs, keras.layers.Dense(100)(x))

    def twin(weights):
        from benchmarks.torch_models import ViTTwin

        return ViTTwin(weights, layers, heads, 0.0, head_rate, frozen=True)

    return Case(
        plain,
        lambda: RDropModel.from_model(plain()),
        twin,
        *_pictures(batch, 100),
        shares=True,
    )


def cnn(
    filters: tuple[int, ...] = (16, 32, 64),
    batch: int = 32,
    rate: float = 0.5,
) -> Case:
    """Returns a CNN: two convolutions per width, dropout before its head."""

    def plain() -> keras.Model:
        inputs = x = keras.Input((32, 32, 3))
        for width in filters:
            for _ in range(2):
                x = keras.layers.Conv2D(
                    width, 3, padding="same", activation="relu"
                )(x)
            x = keras.layers.MaxPooling2D()(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(64, activation="relu")(x)
        x = keras.layers.Dropout(rate)(x)
        return keras.Model(inputs, keras.layers.Dense(10)(x))

    def twin(weights):
        from benchmarks.torch_models import CnnTwin

        return CnnTwin(weights, len(filters), rate)

    return Case(
        plain,
        lambda: RDropModel.from_model(plain()),
        twin,
        *_pictures(batch, 10),
        shares=True,
    )


def _vit_backbone(layers: int, heads: int, width: int, rate: float) -> Any:
    import keras_hub

    return keras_hub.models.ViTBackbone(
        image_shape=(32, 32, 3),
        patch_size=4,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        dropout_rate=rate,
        attention_dropout=rate,
    )


def _pictures(batch: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.normal(size=(batch, 32, 32, 3)).astype("float32")
    return x, random.integers(0, classes, batch).astype("int32")


TINY = TranslationSizes(
    num_layers=1,
    width=16,
    feed_forward=32,
    num_heads=2,
    dropout=RATE,
    attention_dropout=RATE,
    activation_dropout=RATE,
)

# The case of each name, in full size and in a tiny size.
CASES: dict[str, tuple[Callable[..., Case], Callable[..., Case]]] = {
    "transformer-8k": (
        lambda **options: transformer(8000, **options),
        lambda **options: transformer(50, TINY, 4, 8, **options),
    ),
    "transformer-32k": (
        lambda **options: transformer(32_000, **options),
        lambda **options: transformer(90, TINY, 4, 8, **options),
    ),
    "bert": (bert, lambda: bert(1, 16, 50, 4, 8)),
    "vit": (vit, lambda: vit(1, 24, 4)),
    "cnn": (cnn, lambda: cnn((4,), 4)),
    "frozen": (frozen, lambda: frozen(1, 24, 4)),
}


def case_of(name: str, quick: bool = False, label_smoothing: float = 0.0):
    """Returns a case by its name.

    Args:
        name: A key of `CASES`.
        quick: Whether to use the tiny size.
        label_smoothing: The label smoothing of the task loss, for translation
            only.
    """
    make = CASES[name][quick]
    if name.startswith("transformer"):
        return make(label_smoothing=label_smoothing)
    return make()
