"""The layers that training can leave out to compute their loss in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.layers.adaptive_softmax import AdaptiveSoftmax
from rdrop_keras.losses.adaptive import adaptive_rdrop_loss
from rdrop_keras.losses.vocabulary import VocabularyLoss
from rdrop_keras.losses.vocabulary import vocabulary_rdrop_loss

ops = keras.ops

HEADS = (
    keras.layers.Dense,
    keras.layers.ReversibleEmbedding,
    AdaptiveSoftmax,
)
_ACTIVATIONS = (keras.activations.linear, keras.activations.softmax)


class HeadWeights(NamedTuple):
    """A layer that gives logits of a vocabulary.

    Attributes:
        kernel: `(width, vocabulary)`, or `(vocabulary, width)`.
        bias: `(vocabulary,)` or None.
        transposed: Whether the kernel is embeddings.
        activated: Whether a softmax follows.
    """

    kernel: Any
    bias: Any
    transposed: bool
    activated: bool

    @property
    def draws(self) -> bool:
        """Whether the head has dropout of its own."""
        return False

    def check(self, label_smoothing: float, dropout_rates: Any) -> None:
        """Raises if the head has no loss under these settings."""

    def loss(
        self, labels: Any, hidden: Sequence[Any], alpha: Any, **options: Any
    ) -> VocabularyLoss:
        """Returns the objective of what the head is applied to in each pass."""
        return vocabulary_rdrop_loss(
            labels,
            hidden,
            self.kernel,
            self.bias,
            alpha,
            self.transposed,
            **options,
        )


class AdaptiveSoftmaxHead(NamedTuple):
    """An adaptive softmax, whose log-probabilities are logits as well."""

    layer: AdaptiveSoftmax

    @property
    def activated(self) -> bool:
        """Whether what it gives is no logits."""
        return False

    @property
    def draws(self) -> bool:
        """Whether the head has dropout of its own."""
        return self.layer.tail_dropout.rate > 0

    def check(self, label_smoothing: float, dropout_rates: Any) -> None:
        """Raises if the head has no loss under these settings."""
        if label_smoothing:
            raise ValueError(
                "Expected a loss without label smoothing with an "
                "`AdaptiveSoftmax` and `vocabulary_chunk`. Received: "
                f"label_smoothing={label_smoothing!r}."
            )
        if dropout_rates is not None and self.draws:
            # The head is applied when all passes have been made.
            raise ValueError(
                "Expected `dropout_rates=None` with the dropout of an "
                "`AdaptiveSoftmax` and `vocabulary_chunk`. Received: "
                f"dropout_rates={dropout_rates!r}, dropout="
                f"{self.layer.tail_dropout.rate!r} in {self.layer.name}."
            )

    def loss(
        self, labels: Any, hidden: Sequence[Any], alpha: Any, **options: Any
    ) -> VocabularyLoss:
        """Returns the objective of what the head is applied to in each pass."""
        options.pop("label_smoothing")
        return adaptive_rdrop_loss(
            labels, hidden, self.layer, alpha, training=True, **options
        )


def check_head(layer: Any, kwargs: dict[str, Any]) -> None:
    """Raises unless logits are a product of a layer's weights and its input."""
    wrong = None
    if isinstance(layer, keras.layers.Dense):
        if layer.activation not in _ACTIVATIONS:
            wrong = f"activation={layer.activation.__name__}"
        elif getattr(layer, "quantization_mode", None):
            wrong = f"quantization_mode={layer.quantization_mode!r}"
    elif isinstance(layer, keras.layers.ReversibleEmbedding):
        if not kwargs.get("reverse"):
            wrong = "a call without `reverse=True`"
        elif layer.logit_soft_cap is not None:
            wrong = f"logit_soft_cap={layer.logit_soft_cap!r}"
    elif not isinstance(layer, AdaptiveSoftmax):
        wrong = f"a {type(layer).__name__}"
    if wrong is not None:
        raise ValueError(
            "Expected a vocabulary head of which training can compute the "
            "logits in chunks: a `keras.layers.Dense` without activation or "
            "with a softmax, a `keras.layers.ReversibleEmbedding` called "
            "with `reverse=True`, or a `rdrop_keras.layers.AdaptiveSoftmax`. "
            f"Received: {wrong}. Compile with "
            "`rdrop=RDrop(..., vocabulary_chunk=None)`."
        )


def head_and_input(
    layer: keras.layers.Layer, hidden: Any
) -> tuple[HeadWeights | AdaptiveSoftmaxHead, Any]:
    """Returns a head and its input in the dtype that it computes in."""
    hidden = ops.cast(hidden, layer.compute_dtype)
    if isinstance(layer, AdaptiveSoftmax):
        return AdaptiveSoftmaxHead(layer), hidden
    if isinstance(layer, keras.layers.Dense):
        activated = layer.activation is keras.activations.softmax
        bias = layer.bias if layer.use_bias else None
        return HeadWeights(layer.kernel, bias, False, activated), hidden
    tied = layer.tie_weights
    kernel = layer.embeddings if tied else layer.reverse_embeddings
    if layer.reverse_dtype is not None:
        # Rounded first, as the layer's call does.
        kernel = ops.cast(ops.copy(kernel), layer.compute_dtype)
        kernel = ops.cast(kernel, layer.reverse_dtype)
        hidden = ops.cast(hidden, layer.reverse_dtype)
    return HeadWeights(kernel, None, tied, False), hidden
