"""The causal Transformer layer of the language models."""

from __future__ import annotations

from typing import Any

import keras

from reproduce.models.language_sizes import Configuration
from reproduce.models.transformer import NORM_EPSILON
from reproduce.models.transformer import Attention
from reproduce.models.transformer import FeedForward
from reproduce.models.transformer import KeysAndValues

ops = keras.ops


def normalization(name: str, dtype: Any) -> keras.layers.LayerNormalization:
    """Returns a layer normalization with fairseq's epsilon."""
    return keras.layers.LayerNormalization(
        epsilon=NORM_EPSILON, dtype=dtype, name=name
    )


class CausalLayer(keras.layers.Layer):
    """Causal self-attention and feed-forward, with pre-normalization.

    Args:
        configuration: The sizes and dropout rates.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, configuration: Configuration, **kwargs: Any):
        super().__init__(**kwargs)
        sizes, policy = configuration, {"dtype": self.dtype_policy}
        self.width = sizes.width
        self.attention_norm = normalization("attention_norm", **policy)
        self.attention = Attention(
            sizes.num_heads,
            sizes.width,
            sizes.attention_dropout,
            name="attention",
            **policy,
        )
        self.feed_forward_norm = normalization("feed_forward_norm", **policy)
        self.feed_forward = FeedForward(
            sizes.width,
            sizes.feed_forward,
            sizes.activation_dropout,
            sizes.activation,
            name="feed_forward",
            **policy,
        )
        self.attention_dropout = keras.layers.Dropout(
            sizes.dropout, name="attention_residual_dropout", **policy
        )
        self.feed_forward_dropout = keras.layers.Dropout(
            sizes.dropout, name="feed_forward_residual_dropout", **policy
        )

    def build(self, *_: Any) -> None:
        shape = (None, None, self.width)
        self.attention_norm.build(shape)
        self.attention.build()
        self.feed_forward_norm.build(shape)
        self.feed_forward.build()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Computes all positions at once, `(batch, time, width)`."""
        return self.with_memory(inputs, training=training)[0]

    def with_memory(
        self, inputs: Any, training: bool | None = None
    ) -> tuple[Any, KeysAndValues]:
        """Returns the output of `call`, with the keys and values."""
        queries = self.attention_norm(inputs)
        memory = self.attention.keys_and_values(queries)
        time = ops.arange(ops.shape(inputs)[1])
        visible = time[None, :] <= time[:, None]
        branch = self.attention(queries, memory, visible, training=training)
        return self._after_attention(inputs, branch, training), memory

    def step(
        self, inputs: Any, index: Any, cache: KeysAndValues
    ) -> tuple[Any, KeysAndValues]:
        """Computes one position.

        Args:
            inputs: The hidden states, `(batch, 1, width)`.
            index: The position, a scalar.
            cache: The keys and values of previous positions, each
                `(batch, heads, time, width / heads)`.

        Returns:
            The new hidden states, and the cache with this position.
        """
        queries = self.attention_norm(inputs)
        new = self.attention.keys_and_values(queries)
        start = (0, 0, index, 0)
        cache = KeysAndValues(
            ops.slice_update(cache.keys, start, new.keys),
            ops.slice_update(cache.values, start, new.values),
        )
        visible = ops.arange(ops.shape(cache.keys)[-2]) <= index
        branch = self.attention(queries, cache, visible, training=False)
        return self._after_attention(inputs, branch, training=False), cache

    def _after_attention(self, inputs, branch, training):
        hidden = inputs + self.attention_dropout(branch, training=training)
        branch = self.feed_forward(
            self.feed_forward_norm(hidden), training=training
        )
        return hidden + self.feed_forward_dropout(branch, training=training)
