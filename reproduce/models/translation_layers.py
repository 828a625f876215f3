"""The layers of the encoder and of the decoder."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from reproduce.models.transformer import NORM_EPSILON
from reproduce.models.transformer import Attention
from reproduce.models.transformer import FeedForward
from reproduce.models.transformer import KeysAndValues
from reproduce.models.translation_sizes import Configuration

ops = keras.ops


class Residual(keras.layers.Layer):
    """Residual connection: `norm(inputs + dropout(branch))`.

    Args:
        width: The size of both inputs.
        dropout: The dropout rate of the branch.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, width: int, dropout: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.width = width
        self.norm = keras.layers.LayerNormalization(
            epsilon=NORM_EPSILON, dtype=self.dtype_policy, name="norm"
        )
        self.dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="residual_dropout"
        )

    def build(self, *_: Any) -> None:
        self.norm.build((None, None, self.width))

    def call(
        self, inputs: Any, branch: Any, training: bool | None = None
    ) -> Any:
        return self.norm(inputs + self.dropout(branch, training=training))


class EncoderLayer(keras.layers.Layer):
    """Self-attention and feed-forward, with post-normalization.

    Args:
        configuration: The sizes and dropout rates.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, configuration: Configuration, **kwargs: Any):
        super().__init__(**kwargs)
        make = _Sublayers(configuration, self.dtype_policy)
        self.attention = make.attention("attention")
        self.attention_residual = make.residual("attention_residual")
        self.feed_forward = make.feed_forward("feed_forward")
        self.feed_forward_residual = make.residual("feed_forward_residual")

    def build(self, *_: Any) -> None:
        self.attention.build()
        self.attention_residual.build()
        self.feed_forward.build()
        self.feed_forward_residual.build()

    def call(
        self, inputs: Any, visible: Any, training: bool | None = None
    ) -> Any:
        """Encodes a source.

        Args:
            inputs: The hidden states, `(batch, source_time, width)`.
            visible: The boolean mask, `(batch, 1, 1, source_time)`.
            training: Whether dropout is active.

        Returns:
            The new hidden states.
        """
        memory = self.attention.keys_and_values(inputs)
        branch = self.attention(inputs, memory, visible, training=training)
        hidden = self.attention_residual(inputs, branch, training=training)
        branch = self.feed_forward(hidden, training=training)
        return self.feed_forward_residual(hidden, branch, training=training)


class DecoderLayer(keras.layers.Layer):
    """Causal self-attention, attention to the source, and feed-forward.

    Args:
        configuration: The sizes and dropout rates.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, configuration: Configuration, **kwargs: Any):
        super().__init__(**kwargs)
        make = _Sublayers(configuration, self.dtype_policy)
        self.attention = make.attention("attention")
        self.attention_residual = make.residual("attention_residual")
        self.source_attention = make.attention("source_attention")
        self.source_residual = make.residual("source_residual")
        self.feed_forward = make.feed_forward("feed_forward")
        self.feed_forward_residual = make.residual("feed_forward_residual")

    def build(self, *_: Any) -> None:
        self.attention.build()
        self.attention_residual.build()
        self.source_attention.build()
        self.source_residual.build()
        self.feed_forward.build()
        self.feed_forward_residual.build()

    def call(
        self,
        inputs: Any,
        source: KeysAndValues,
        visible: Any,
        visible_source: Any,
        training: bool | None = None,
    ) -> Any:
        """Decodes all positions at once.

        Args:
            inputs: The hidden states, `(batch, target_time, width)`.
            source: The keys and values of the memory, which
                `source_attention` projected.
            visible: The boolean mask, `(target_time, target_time)`.
            visible_source: The boolean mask, `(batch, 1, 1, source_time)`.
            training: Whether dropout is active.

        Returns:
            The new hidden states.
        """
        memory = self.attention.keys_and_values(inputs)
        branch = self.attention(inputs, memory, visible, training=training)
        hidden = self.attention_residual(inputs, branch, training=training)
        return self._after_self_attention(
            hidden, source, visible_source, training
        )

    def step(
        self,
        inputs: Any,
        index: Any,
        cache: KeysAndValues,
        source: KeysAndValues,
        visible_source: Any,
    ) -> tuple[Any, KeysAndValues]:
        """Decodes one position of every hypothesis.

        Args:
            inputs: The hidden states, `(batch, beam, width)`.
            index: The position, a scalar.
            cache: The keys and values of previous positions, each
                `(batch, beam, heads, time, width / heads)`.
            source: The source, as in `call`. All hypotheses of a sentence
                share it.
            visible_source: The mask, as in `call`.

        Returns:
            The new hidden states, and the updated cache.
        """
        queries = ops.expand_dims(inputs, 2)
        new = self.attention.keys_and_values(queries)
        start = (0, 0, 0, index, 0)
        cache = KeysAndValues(
            ops.slice_update(cache.keys, start, new.keys),
            ops.slice_update(cache.values, start, new.values),
        )
        visible = ops.arange(ops.shape(cache.keys)[-2]) <= index
        branch = self.attention(queries, cache, visible, training=False)
        hidden = self.attention_residual(
            inputs, ops.squeeze(branch, 2), training=False
        )
        # For attention to the source, the axis of hypotheses takes the place
        # of the axis of positions in training.
        hidden = self._after_self_attention(
            hidden, source, visible_source, training=False
        )
        return hidden, cache

    def _after_self_attention(self, hidden, source, visible_source, training):
        branch = self.source_attention(
            hidden, source, visible_source, training=training
        )
        hidden = self.source_residual(hidden, branch, training=training)
        branch = self.feed_forward(hidden, training=training)
        return self.feed_forward_residual(hidden, branch, training=training)


class _Sublayers(NamedTuple):
    configuration: Configuration
    dtype: Any

    def attention(self, name):
        sizes = self.configuration
        return Attention(
            sizes.num_heads,
            sizes.width,
            sizes.attention_dropout,
            name=name,
            dtype=self.dtype,
        )

    def feed_forward(self, name):
        sizes = self.configuration
        return FeedForward(
            sizes.width,
            sizes.feed_forward,
            sizes.activation_dropout,
            name=name,
            dtype=self.dtype,
        )

    def residual(self, name):
        sizes = self.configuration
        return Residual(sizes.width, sizes.dropout, name=name, dtype=self.dtype)
