"""The base class of the Transformers for texts."""

from __future__ import annotations

import dataclasses
from typing import Any
from typing import ClassVar

import keras
import keras_hub

from rdrop_keras import RDropModel
from reproduce.models.attention import KeysAndValues
from reproduce.models.sizes import Sizes

ops = keras.ops


class TextModel(RDropModel):
    """A Transformer with sinusoidal positions and one table of embeddings.

    Args:
        vocabulary_size: The number of ids.
        **configuration: The fields of the class's `sizes`, and arguments of
            `keras.Model`.
    """

    sizes: ClassVar[type[Sizes]]

    def __init__(self, vocabulary_size: int, **configuration: Any):
        names = {field.name for field in dataclasses.fields(self.sizes)}
        sizes = {k: configuration.pop(k) for k in names & {*configuration}}
        super().__init__(**configuration)
        self.supports_masking = True
        self.configuration = self.sizes(**sizes)
        self.vocabulary_size = vocabulary_size
        # Half precision cannot distinguish adjacent positions.
        self.positions = keras_hub.layers.SinePositionEncoding(
            dtype="float32", name="positions"
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            **dataclasses.asdict(self.configuration),
            "vocabulary_size": self.vocabulary_size,
        }

    def new_embedding(self, size: int, name: str) -> keras.layers.Layer:
        """Returns a table that also projects to logits, in float32."""
        width = self.configuration.width
        return keras_hub.layers.ReversibleEmbedding(
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
        # Positions do not depend on the text, so one row is enough.
        row = ops.zeros((1, ops.shape(ids)[-1], width))
        positions = self.positions(row, start_index=start_index)
        return embedded + ops.cast(positions, embedded.dtype)


def causal_mask(ids: Any) -> Any:
    """Returns the positions visible to each position, `(time, time)`."""
    time = ops.arange(ops.shape(ids)[1])
    return time[None, :] <= time[:, None]
