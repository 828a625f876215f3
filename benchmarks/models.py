"""The models that training steps are measured on, with a batch for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import keras_hub
import numpy as np

from benchmarks.prefix import build as build_cnn
from examples.translation.model import Transformer
from rdrop_keras import RDropModel

RATE = 0.1


class Case(NamedTuple):
    """A model and what it is trained on.

    Attributes:
        build: Makes the model.
        x: Inputs, of any structure.
        y: Class ids.
        chunks: Whether its vocabulary is large enough for chunks.
    """

    build: Callable[[], RDropModel]
    x: Any
    y: np.ndarray
    chunks: bool = False


def transformer(vocabulary: int) -> Case:
    """An encoder and decoder of 2+2 layers, width 256; 16 x 32 tokens."""
    random = np.random.default_rng(0)

    def ids() -> np.ndarray:
        return random.integers(4, vocabulary, (16, 32)).astype("int32")

    def build() -> RDropModel:
        return Transformer(
            vocabulary_size=vocabulary,
            num_layers=2,
            width=256,
            feed_forward=1024,
            num_heads=4,
            dropout=RATE,
            attention_dropout=RATE,
            activation_dropout=RATE,
        )

    return Case(
        build, {"source_ids": ids(), "target_ids": ids()}, ids(), chunks=True
    )


def bert() -> Case:
    """BERT of 4 layers, width 256, with a classifier; 16 x 64 tokens."""
    random = np.random.default_rng(0)
    shape = (16, 64)

    def build() -> RDropModel:
        backbone = keras_hub.models.BertBackbone(
            vocabulary_size=8000,
            num_layers=4,
            num_heads=4,
            hidden_dim=256,
            intermediate_dim=1024,
            dropout=RATE,
            max_sequence_length=64,
        )
        classifier = keras_hub.models.BertTextClassifier(
            backbone, num_classes=3, preprocessor=None, dropout=RATE
        )
        return RDropModel.from_model(classifier)

    x = {
        "token_ids": random.integers(1, 8000, shape).astype("int32"),
        "segment_ids": np.zeros(shape, "int32"),
        "padding_mask": np.ones(shape, "int32"),
    }
    return Case(build, x, random.integers(0, 3, 16))


def vit() -> Case:
    """ViT of 4 layers, width 192; 16 images of 32 x 32, patches of 4 x 4."""
    random = np.random.default_rng(0)

    def build() -> RDropModel:
        backbone = keras_hub.models.ViTBackbone(
            image_shape=(32, 32, 3),
            patch_size=4,
            num_layers=4,
            num_heads=3,
            hidden_dim=192,
            mlp_dim=768,
            dropout_rate=RATE,
            attention_dropout=RATE,
        )
        classifier = keras_hub.models.ViTImageClassifier(
            backbone, num_classes=100, preprocessor=None
        )
        return RDropModel.from_model(classifier)

    x = random.normal(size=(16, 32, 32, 3)).astype("float32")
    return Case(build, x, random.integers(0, 100, 16))


def cnn() -> Case:
    """Six convolutions with dropout before the last layer; 32 images."""
    random = np.random.default_rng(0)
    x = random.normal(size=(32, 32, 32, 3)).astype("float32")
    return Case(build_cnn, x, random.integers(0, 10, 32))


def loss() -> keras.losses.Loss:
    """Returns the task loss of all of them."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


CASES: dict[str, Callable[[], Case]] = {
    "transformer, 8,000 words": lambda: transformer(8000),
    "transformer, 32,000 words": lambda: transformer(32_000),
    "BERT": bert,
    "ViT": vit,
    "CNN": cnn,
}
