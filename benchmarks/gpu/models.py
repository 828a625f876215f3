"""Three models of the paper in their usual sizes, of Keras's layers alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.models import RATE
from benchmarks.models import Case
from benchmarks.models import transformer
from rdrop_keras import RDropModel
from reproduce.models.attention import normalization
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.sizes import Sizes
from reproduce.models.sizes import TranslationSizes
from reproduce.models.transformer import TransformerLayer

ops = keras.ops

BASE = Sizes(12, 768, 3072, 12, RATE, RATE, RATE, "gelu")
TINY = Sizes(1, 16, 32, 2, RATE, 0.0, 0.0, "gelu")
TINY_TRANSLATION = TranslationSizes(1, 16, 32, 2, RATE, 0.0, 0.0)
# A layer of `TransformerLayer` has the arrays of its attention, a norm, the
# feed-forward layers and a norm. The PyTorch modules want another order.
ATTENTION, NORM, FEED_FORWARD, LAST_NORM = (
    list(range(*limits)) for limits in ((0, 8), (8, 10), (10, 14), (14, 16))
)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A model and its batch, with what a speed is computed from.

    Attributes:
        case: The model and its batch.
        items: The number of tokens, of one side, or of images in a batch.
        unit: "tokens" or "images".
        flops: The floating-point operations of the matrix products of one
            forward pass of a batch, two for each multiply-add.
    """

    case: Case
    items: int
    unit: str
    flops: float


class Positions(keras.layers.Layer):
    """Adds learned embeddings of positions.

    Args:
        first: Whether to put a learned token before the others.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, first: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.first = first

    def build(self, input_shape: tuple[int, ...]) -> None:
        _, time, width = input_shape
        normal = keras.initializers.RandomNormal(stddev=0.02)
        if self.first:
            self.token = self.add_weight((1, 1, width), normal, name="token")
        shape = (time + self.first, width)
        self.positions = self.add_weight(shape, normal, name="positions")

    def call(self, inputs: Any) -> Any:
        if self.first:
            shape = (ops.shape(inputs)[0], 1, inputs.shape[-1])
            token = ops.cast(self.token, inputs.dtype)
            token = ops.broadcast_to(token, shape)
            inputs = ops.concatenate([token, inputs], axis=1)
        return inputs + ops.cast(self.positions, inputs.dtype)


def translation(
    sizes: TranslationSizes, vocabulary: int, batch: int, time: int
) -> Measured:
    """Returns the translation task's Transformer."""
    # PyTorch's `linear_cross_entropy` in chunks has no label smoothing.
    case = transformer(vocabulary, sizes, batch, time)
    macs = sizes.num_layers * (
        _layer_macs(sizes, time) + _layer_macs(sizes, time, time)
    )
    macs += time * sizes.width * vocabulary
    return Measured(case, batch * time, "tokens", 2.0 * batch * macs)


def bert(sizes: Sizes, vocabulary: int, batch: int, time: int) -> Measured:
    """Returns BERT with a classifier of 2 classes on its first token."""

    def parts() -> tuple[Any, Any]:
        inputs = {
            name: keras.Input((time,), dtype="int32", name=name)
            for name in ("token_ids", "segment_ids", "padding_mask")
        }
        width = sizes.width
        x = keras.layers.Embedding(vocabulary, width)(inputs["token_ids"])
        x = Positions()(x)
        segments = keras.layers.Embedding(2, width)(inputs["segment_ids"])
        x = normalization("norm", None)(x + segments)
        x = keras.layers.Dropout(sizes.dropout)(x)
        visible = ops.cast(inputs["padding_mask"], "bool")[:, None, None, :]
        for index in range(sizes.num_layers):
            x = TransformerLayer(sizes, name=f"layer_{index}")(x, visible)
        x = keras.layers.Dense(width, activation="tanh")(x[:, 0])
        x = keras.layers.Dropout(sizes.dropout)(x)
        return inputs, keras.layers.Dense(2, dtype="float32")(x)

    def twin(weights: list[np.ndarray]) -> Any:
        from benchmarks.torch_models import BertTwin

        stem, layers, head = _split(weights, sizes.num_layers)
        order = ATTENTION + NORM + LAST_NORM + FEED_FORWARD
        weights = [*stem, *_ordered(layers, order), *head]
        return BertTwin(
            weights,
            sizes.num_layers,
            sizes.num_heads,
            sizes.dropout,
            approximate="none",
        )

    random = np.random.default_rng(0)
    shape = (batch, time)
    x = {
        "token_ids": random.integers(1, vocabulary, shape).astype("int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, "int32"),
    }
    y = random.integers(0, 2, batch).astype("int32")
    macs = sizes.num_layers * _layer_macs(sizes, time)
    macs += sizes.width**2 + 2 * sizes.width
    case = _functional(parts, twin, x, y)
    return Measured(case, batch * time, "tokens", 2.0 * batch * macs)


def vit(
    sizes: Sizes, side: int, patch: int, classes: int, batch: int
) -> Measured:
    """Returns a Vision Transformer with a classifier on its class token."""

    def parts() -> tuple[Any, Any]:
        inputs = keras.Input((side, side, 3))
        x = keras.layers.Conv2D(sizes.width, patch, patch)(inputs)
        x = keras.layers.Reshape((-1, sizes.width))(x)
        x = keras.layers.Dropout(sizes.dropout)(Positions(first=True)(x))
        for index in range(sizes.num_layers):
            layer = TransformerLayer(sizes, True, name=f"layer_{index}")
            x = layer(x, np.ones((1, 1, 1, 1), "bool"))
        x = normalization("norm", None)(x)[:, 0]
        return inputs, keras.layers.Dense(classes, dtype="float32")(x)

    def twin(weights: list[np.ndarray]) -> Any:
        from benchmarks.torch_models import ViTTwin

        stem, layers, head = _split(weights, sizes.num_layers)
        kernel, bias, token, positions = stem
        order = NORM + ATTENTION + LAST_NORM + FEED_FORWARD
        weights = [token, kernel, bias, positions]
        weights += [*_ordered(layers, order), *head]
        return ViTTwin(
            weights,
            sizes.num_layers,
            sizes.num_heads,
            sizes.dropout,
            head_rate=0.0,
        )

    random = np.random.default_rng(0)
    x = random.normal(size=(batch, side, side, 3)).astype("float32")
    y = random.integers(0, classes, batch).astype("int32")
    patches = (side // patch) ** 2
    macs = patches * patch**2 * 3 * sizes.width
    macs += sizes.num_layers * _layer_macs(sizes, patches + 1)
    macs += sizes.width * classes
    case = _functional(parts, twin, x, y)
    return Measured(case, batch, "images", 2.0 * batch * macs)


def _functional(parts: Callable, twin: Callable, x: Any, y: Any) -> Case:
    return Case(
        lambda: keras.Model(*parts()), lambda: RDropModel(*parts()), twin, x, y
    )


def _layer_macs(sizes: Sizes, time: int, source: int = 0) -> int:
    width = sizes.width
    macs = time * (4 * width**2 + 2 * width * sizes.feed_forward)
    macs += 2 * time**2 * width
    if source:
        macs += 2 * (time + source) * width**2 + 2 * time * source * width
    return macs


def _split(weights: list, layers: int) -> tuple[list, list, list]:
    # Two arrays of the last layer come after those of the norm or the pooler.
    end = len(weights) - 4
    start = end - 16 * layers
    return weights[:start], weights[start:end], weights[end:]


def _ordered(arrays: list, order: list[int]) -> list:
    return [
        arrays[start + index]
        for start in range(0, len(arrays), 16)
        for index in order
    ]


# The model of each name, in full size and in a tiny size.
CASES: dict[str, tuple[Callable[[], Measured], Callable[[], Measured]]] = {
    "transformer-big": (
        lambda: translation(TRANSLATION_SIZES["big"], 32_000, 64, 64),
        lambda: translation(TINY_TRANSLATION, 90, 4, 8),
    ),
    "vit-b16": (
        lambda: vit(BASE, 224, 16, 1000, 64),
        lambda: vit(TINY, 16, 4, 10, 4),
    ),
    "bert-base": (
        lambda: bert(BASE, 30_522, 64, 128),
        lambda: bert(TINY, 50, 4, 8),
    ),
}


def model_of(name: str, tiny: bool = False) -> Measured:
    """Returns a model by its name, a key of `CASES`."""
    return CASES[name][tiny]()
