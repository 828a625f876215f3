"""Attention and feed-forward layers with fairseq's dropout and initialization.

KerasHub's encoder and decoder layers have a single dropout rate and no dropout
of feed-forward activations. They use Keras's attention, whose Xavier range is
much too small: Keras treats its kernel of three axes (width, heads and size) as
the kernel of a convolution.
"""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

ops = keras.ops

# The epsilon of fairseq and PyTorch; Keras's default is 1e-3.
NORM_EPSILON = 1e-5
# Far below any score but finite, so that a row whose keys are all masked gets
# equal weights rather than NaN.
MASKED_SCORE = -1e9


def normalization(name: str, dtype: Any) -> keras.layers.LayerNormalization:
    """Returns a layer normalization with fairseq's epsilon."""
    return keras.layers.LayerNormalization(
        epsilon=NORM_EPSILON, dtype=dtype, name=name
    )


class KeysAndValues(NamedTuple):
    """Keys and values of attention, `(..., heads, time, width / heads)`."""

    keys: Any
    values: Any


class Attention(keras.layers.Layer):
    """Multi-head scaled dot-product attention, with dropout of its weights."""

    def __init__(
        self, num_heads: int, width: int, dropout: float, **kwargs: Any
    ):
        super().__init__(**kwargs)
        if width % num_heads:
            raise ValueError(
                "Expected a `width` that `num_heads` divides. Received: "
                f"width={width}, num_heads={num_heads}."
            )
        self.num_heads = num_heads
        self.width = width

        def dense(name, scale):
            return keras.layers.Dense(
                width,
                kernel_initializer=keras.initializers.VarianceScaling(
                    scale, "fan_avg", "uniform"
                ),
                dtype=self.dtype_policy,
                name=name,
            )

        # fairseq and PyTorch use Xavier's range of the three kernels combined.
        self.query = dense("query", 0.5)
        self.key = dense("key", 0.5)
        self.value = dense("value", 0.5)
        self.output_dense = dense("output", 1.0)
        self.dropout = keras.layers.Dropout(
            dropout, dtype=self.dtype_policy, name="attention_dropout"
        )

    def build(self, *_: Any) -> None:
        for dense in (self.query, self.key, self.value, self.output_dense):
            dense.build((None, None, self.width))

    def keys_and_values(self, memory: Any) -> KeysAndValues:
        """Returns the projections of a memory, `(..., time, width)`."""
        return KeysAndValues(
            self._split(self.key(memory)), self._split(self.value(memory))
        )

    def call(
        self,
        inputs: Any,
        memory: KeysAndValues,
        visible: Any,
        training: bool | None = None,
    ) -> Any:
        """Attends from queries, `(..., queries, width)`, to a memory.

        `visible` is the boolean mask of positions to attend to, which
        broadcasts to `(..., heads, queries, time)`.
        """
        query = self._split(self.query(inputs))
        query = query * (self.width // self.num_heads) ** -0.5
        scores = ops.matmul(query, ops.swapaxes(memory.keys, -1, -2))
        scores = ops.cast(scores, "float32")
        if scores.shape[-1] == 1:
            # `ops.softmax` warns if its axis has size 1.
            weights = ops.ones_like(scores)
        else:
            weights = ops.softmax(ops.where(visible, scores, MASKED_SCORE))
        weights = ops.cast(weights, memory.values.dtype)
        weights = self.dropout(weights, training=training)
        heads = ops.swapaxes(ops.matmul(weights, memory.values), -2, -3)
        merged = ops.reshape(heads, ops.shape(heads)[:-2] + (self.width,))
        return self.output_dense(merged)

    def _split(self, x: Any) -> Any:
        heads = (self.num_heads, self.width // self.num_heads)
        x = ops.reshape(x, ops.shape(x)[:-1] + heads)
        return ops.swapaxes(x, -2, -3)


class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation and dropout in between."""

    def __init__(
        self,
        width: int,
        feed_forward: int,
        dropout: float,
        activation: Any = "relu",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.width = width
        policy = {"dtype": self.dtype_policy}
        self.inner = keras.layers.Dense(
            feed_forward, activation=activation, name="inner", **policy
        )
        self.outer = keras.layers.Dense(width, name="outer", **policy)
        self.dropout = keras.layers.Dropout(
            dropout, name="activation_dropout", **policy
        )

    def build(self, *_: Any) -> None:
        self.inner.build((None, None, self.width))
        self.outer.build((None, None, self.inner.units))

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        hidden = self.dropout(self.inner(inputs), training=training)
        return self.outer(hidden)
