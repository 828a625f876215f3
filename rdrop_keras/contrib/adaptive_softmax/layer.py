"""A softmax over a large vocabulary: a head, and clusters of rare words."""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.contrib.adaptive_softmax.weights import AdaptiveWeights


@keras.saving.register_keras_serializable("rdrop_keras")
class AdaptiveSoftmax(keras.layers.Layer):
    """A layer that returns log-probabilities of words sorted by frequency.

    The first `cutoffs[0]` words, the most frequent, are classes of a head that
    sees the whole hidden state. Every other class of the head stands for a
    cluster of rarer words: cluster i, counted from 0, has the words from
    `cutoffs[i]` to `cutoffs[i + 1]`, and the last cluster those to the end of
    the vocabulary. Each cluster has its own softmax over the hidden state
    projected to `width / div_value**(i + 1)`, rounded down. The probability of
    a rare word is that of its cluster times that within the cluster.

    The output has a value for every word of every item, which suits
    evaluation, generation and small vocabularies. To train without holding it,
    pass the hidden states and this layer to
    `rdrop_keras.losses.adaptive_rdrop_loss`.

    Log-probabilities are valid logits: use losses and divergences with
    `from_logits=True`.

    Args:
        vocabulary_size: The number of words.
        cutoffs: The id of the first word of each cluster: one or more
            integers, each larger than the one before and below the vocabulary
            size.
        div_value: The ratio of the width of each cluster to that of the next,
            at least 1.
        head_bias: Whether the head has a bias. Clusters never do.
        dropout: Rate of the dropout between the two kernels of each cluster.
            Dropout of the hidden state is for a layer before this one.
        kernel_initializer: Initializer of all kernels.
        kernel_regularizer: Optional regularizer of all kernels.
        seed: Optional seed of the dropout.
        **kwargs: Other arguments of `keras.layers.Layer`.

    Call arguments:
        hidden: Hidden states, `(batch, ..., width)`.
        training: Whether dropout is active.

    Returns:
        Log-probabilities in nats, `(batch, ..., vocabulary_size)`, in float32
        under every dtype policy.

    Raises:
        ValueError: If the cutoffs are not increasing word ids, or the width of
            a cluster would be 0.

    Example:

    >>> layer = rdrop_keras.layers.AdaptiveSoftmax(
    ...     vocabulary_size=100, cutoffs=[10, 40])
    >>> log_probabilities = layer(np.ones((2, 5, 16), "float32"))
    >>> tuple(log_probabilities.shape)
    (2, 5, 100)
    >>> [tuple(weight.shape) for weight in layer.weights]
    [(16, 12), (16, 4), (16, 1), (4, 30), (1, 60)]

    Reference:
        [Grave et al., 2017](https://arxiv.org/abs/1609.04309), section 4.
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448) for the
        objective.
    """

    def __init__(
        self,
        vocabulary_size: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        dropout: float = 0.0,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.cutoffs = _check_cutoffs(vocabulary_size, cutoffs)
        self.vocabulary_size = int(vocabulary_size)
        if not div_value >= 1:
            raise ValueError(
                "Expected `div_value` to be at least 1, so that clusters of "
                "rarer words are not wider. Received: "
                f"div_value={div_value!r}."
            )
        self.div_value = div_value
        self.head_bias = head_bias
        # Computes in the dtype of its input, which the loss may choose.
        self.tail_dropout = keras.layers.Dropout(
            dropout, seed=seed, autocast=False
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        clusters = len(self.cutoffs)
        if width is None:
            raise ValueError(
                "Expected the width of the hidden states to be known. "
                f"Received: input_shape={tuple(input_shape)}."
            )
        widths = [int(width // self.div_value**i) for i in range(clusters + 1)]
        if widths[-1] < 1:
            raise ValueError(
                "Expected some width to be left for every cluster. Received: "
                f"hidden states of width {width}, clusters of widths "
                f"{widths[1:]}. Lower `div_value={self.div_value}` or take "
                "fewer cutoffs."
            )
        self.kernel = self._kernel("kernel", width, self.cutoffs[0] + clusters)
        self.bias = None
        if self.head_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.cutoffs[0] + clusters,),
                initializer="zeros",
            )
        self.projections = [
            self._kernel(f"projection_{i}", width, inner)
            for i, inner in enumerate(widths[1:])
        ]
        ends = [*self.cutoffs[1:], self.vocabulary_size]
        self.kernels = [
            self._kernel(f"kernel_{i}", inner, end - start)
            for i, (inner, start, end) in enumerate(
                zip(widths[1:], self.cutoffs, ends)
            )
        ]
        self.built = True

    def _kernel(self, name: str, inputs: int, outputs: int) -> Any:
        return self.add_weight(
            name=name,
            shape=(inputs, outputs),
            # Copied: one initializer object draws the same numbers every time.
            initializer=keras.initializers.get(
                keras.initializers.serialize(self.kernel_initializer)
            ),
            regularizer=self.kernel_regularizer,
        )

    def adaptive_weights(self) -> AdaptiveWeights:
        """Returns the variables as `AdaptiveWeights`."""
        if not self.built:
            raise ValueError(
                f"Expected `{self.name}` to have weights. Received: a layer "
                "that was never called nor built. Call "
                f"`{self.name}.build((None, width))`."
            )
        return AdaptiveWeights(
            self.kernel, self.bias, list(self.projections), list(self.kernels)
        )

    def call(self, hidden: Any, training: bool | None = None) -> Any:
        weights = self.adaptive_weights()
        states = weights.project(
            hidden, lambda state: self.tail_dropout(state, training=training)
        )
        return weights.log_probabilities(states)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "vocabulary_size": self.vocabulary_size,
            "cutoffs": list(self.cutoffs),
            "div_value": self.div_value,
            "head_bias": self.head_bias,
            "dropout": self.tail_dropout.rate,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
            "seed": self.tail_dropout.seed,
        }


def _check_cutoffs(vocabulary_size: int, cutoffs: Sequence[int]) -> list[int]:
    """Returns the cutoffs as integers, after checking them."""
    found = list(cutoffs) if isinstance(cutoffs, Sequence) else []
    bounds = [0, *found, vocabulary_size]
    integers = all(isinstance(bound, numbers.Integral) for bound in bounds)
    if (
        not found
        or not integers
        or any(a >= b for a, b in itertools.pairwise(bounds))
    ):
        raise ValueError(
            "Expected `cutoffs` to be a list of one or more integers above 0 "
            "and below `vocabulary_size`, each larger than the one before. "
            f"Received: cutoffs={cutoffs!r} and "
            f"vocabulary_size={vocabulary_size!r}. The vocabulary's size is "
            "not one of them."
        )
    return [int(cutoff) for cutoff in found]
