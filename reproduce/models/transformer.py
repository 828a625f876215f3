"""The Transformer layer of all models, with fairseq's dropout."""

from __future__ import annotations

from typing import Any

import keras

from reproduce.models.attention import Attention
from reproduce.models.attention import FeedForward
from reproduce.models.attention import KeysAndValues
from reproduce.models.attention import normalization
from reproduce.models.sizes import Sizes

ops = keras.ops


class Residual(keras.layers.Layer):
    """Residual connection, with dropout of the branch and normalization.

    With `pre_norm`, the input of the branch is normalized, rather than the sum.
    """

    def __init__(
        self, width: int, dropout: float, pre_norm: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.width = width
        self.pre_norm = pre_norm
        self.norm = normalization("norm", self.dtype_policy)
        self.dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="residual_dropout"
        )

    def build(self, *_: Any) -> None:
        self.norm.build((None, None, self.width))

    def prepare(self, inputs: Any) -> Any:
        """Returns the input of the branch."""
        return self.norm(inputs) if self.pre_norm else inputs

    def call(
        self, inputs: Any, branch: Any, training: bool | None = None
    ) -> Any:
        hidden = inputs + self.dropout(branch, training=training)
        return hidden if self.pre_norm else self.norm(hidden)


class TransformerLayer(keras.layers.Layer):
    """Self-attention, attention to a source if `reads_source`, feed-forward."""

    def __init__(
        self,
        sizes: Sizes,
        pre_norm: bool = False,
        reads_source: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.reads_source = reads_source
        policy = {"dtype": self.dtype_policy}
        heads = sizes.num_heads, sizes.width, sizes.attention_dropout
        rates = sizes.width, sizes.dropout, pre_norm
        self.attention = Attention(*heads, name="attention", **policy)
        self.attention_residual = Residual(
            *rates, name="attention_residual", **policy
        )
        if reads_source:
            self.source_attention = Attention(
                *heads, name="source_attention", **policy
            )
            self.source_residual = Residual(
                *rates, name="source_residual", **policy
            )
        self.feed_forward = FeedForward(
            sizes.width,
            sizes.feed_forward,
            sizes.activation_dropout,
            sizes.activation,
            name="feed_forward",
            **policy,
        )
        self.feed_forward_residual = Residual(
            *rates, name="feed_forward_residual", **policy
        )

    def build(self, *_: Any) -> None:
        for layer in self._layers:
            layer.build()

    def call(
        self,
        inputs: Any,
        visible: Any,
        source: KeysAndValues | None = None,
        visible_source: Any = None,
        training: bool | None = None,
    ) -> Any:
        """Returns the new hidden states of `with_memory`."""
        return self.with_memory(
            inputs, visible, source, visible_source, training
        )[0]

    def with_memory(
        self,
        inputs: Any,
        visible: Any,
        source: KeysAndValues | None = None,
        visible_source: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, KeysAndValues]:
        """Returns the new hidden states of all positions, and their memory.

        Args:
            inputs: The hidden states, `(batch, time, width)`.
            visible: The boolean mask, which broadcasts to
                `(batch, heads, time, time)`.
            source: The keys and values of the source, which
                `source_attention` projected.
            visible_source: The boolean mask, `(batch, 1, 1, source_time)`.
            training: Whether dropout is active.
        """
        queries = self.attention_residual.prepare(inputs)
        memory = self.attention.keys_and_values(queries)
        branch = self.attention(queries, memory, visible, training=training)
        hidden = self._after_attention(
            inputs, branch, source, visible_source, training
        )
        return hidden, memory

    def step(
        self,
        inputs: Any,
        index: Any,
        cache: KeysAndValues,
        source: KeysAndValues | None = None,
        visible_source: Any = None,
    ) -> tuple[Any, KeysAndValues]:
        """Returns the new hidden states of one position, and the new cache.

        Args:
            inputs: The hidden states, `(batch, beam, width)`.
            index: The position, a scalar.
            cache: The keys and values of previous positions, each
                `(batch, beam, heads, time, width / heads)`.
            source: The source, as in `with_memory`. All hypotheses of a
                sentence share it.
            visible_source: The mask, as in `with_memory`.
        """
        queries = self.attention_residual.prepare(inputs)
        queries = ops.expand_dims(queries, 2)
        new = self.attention.keys_and_values(queries)
        start = (0, 0, 0, index, 0)
        cache = KeysAndValues(
            ops.slice_update(cache.keys, start, new.keys),
            ops.slice_update(cache.values, start, new.values),
        )
        visible = ops.arange(ops.shape(cache.keys)[-2]) <= index
        branch = self.attention(queries, cache, visible, training=False)
        # For attention to the source, the axis of hypotheses takes the place
        # of the axis of positions in training.
        hidden = self._after_attention(
            inputs, ops.squeeze(branch, 2), source, visible_source, False
        )
        return hidden, cache

    def _after_attention(
        self, inputs, branch, source, visible_source, training
    ):
        hidden = self.attention_residual(inputs, branch, training=training)
        if self.reads_source:
            branch = self.source_attention(
                self.source_residual.prepare(hidden),
                source,
                visible_source,
                training=training,
            )
            hidden = self.source_residual(hidden, branch, training=training)
        branch = self.feed_forward(
            self.feed_forward_residual.prepare(hidden), training=training
        )
        return self.feed_forward_residual(hidden, branch, training=training)
