"""The base class of the Transformers for texts."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import ClassVar

import keras
import numpy as np

from rdrop_keras import RDropModel
from reproduce.models.attention import KeysAndValues
from reproduce.models.sizes import Sizes

ops = keras.ops


class TextModel(RDropModel):
    """A Transformer with sinusoidal positions and one table of embeddings.

    The class's `sizes` has the fields of the configuration. Other arguments are
    those of `keras.Model`.
    """

    sizes: ClassVar[type[Sizes]]

    def __init__(self, vocabulary_size: int, **configuration: Any):
        names = {field.name for field in dataclasses.fields(self.sizes)}
        sizes = {k: configuration.pop(k) for k in names & {*configuration}}
        super().__init__(**configuration)
        self.supports_masking = True
        self.configuration = self.sizes(**sizes)
        self.vocabulary_size = vocabulary_size

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **dataclasses.asdict(self.configuration),
            "vocabulary_size": self.vocabulary_size,
        }

    def new_embedding(self, size: int, name: str) -> keras.layers.Layer:
        """Returns a table that also projects to logits, in float32."""
        width = self.configuration.width
        return keras.layers.ReversibleEmbedding(
            size,
            width,
            embeddings_initializer=keras.initializers.RandomNormal(
                stddev=width**-0.5
            ),
            reverse_dtype="float32",
            name=name,
            dtype=self.dtype_policy,
        )

    def new_dropout(self, name: str) -> keras.layers.Dropout:
        """Returns the dropout of embeddings."""
        return keras.layers.Dropout(
            self.configuration.dropout, name=name, dtype=self.dtype_policy
        )

    def empty_cache(
        self, batch_size: Any, beam_size: int, time: Any
    ) -> list[KeysAndValues]:
        """Returns an empty cache of `time` positions."""
        sizes = self.configuration
        heads = sizes.num_heads
        shape = (batch_size, beam_size, heads, time, sizes.width // heads)
        empty = ops.zeros(shape, self.compute_dtype)
        return [KeysAndValues(empty, empty)] * sizes.num_layers

    def embed(self, embedding: Any, ids: Any, start_index: Any = 0) -> Any:
        """Returns the embeddings of ids and positions."""
        width = self.configuration.width
        embedded = embedding(ids) * width**0.5
        positions = sinusoids(
            ops.arange(ops.shape(ids)[-1]) + start_index, width
        )
        return embedded + ops.cast(positions, embedded.dtype)


def sinusoids(positions: Any, width: int) -> Any:
    """Returns the encoding of Vaswani et al. (2017), `(time, width)`.

    KerasHub's layer computes the same, but KerasHub cannot be imported where
    Keras and a backend are all there is, such as on a rented GPU.
    """
    columns = np.arange(width)
    frequencies = 1e4 ** -(columns // 2 * 2 / width)
    # Half precision cannot distinguish adjacent positions.
    positions = ops.cast(positions, "float32")
    angles = positions[:, None] * frequencies.astype("float32")
    return ops.where(columns % 2 == 0, ops.sin(angles), ops.cos(angles))


def causal_mask(ids: Any) -> Any:
    """Returns the positions visible to each position, `(time, time)`."""
    time = ops.arange(ops.shape(ids)[1])
    return time[None, :] <= time[:, None]
