"""The layers that training can leave out to compute their loss in chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.closed_form.hidden import VocabularyLoss
from rdrop_keras.closed_form.hidden import vocabulary_rdrop_loss
from rdrop_keras.contrib.adaptive_softmax import adaptive_rdrop_loss
from rdrop_keras.contrib.adaptive_softmax.layer import AdaptiveSoftmax

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
    """Raises unless logits are a product of a layer's weights and its input.

    Args:
        layer: A layer, or another operation of a functional model.
        kwargs: The arguments of its call beside the input.
    """
    kind = _kind(layer)
    wrong = None
    if kind is None:
        name = getattr(layer, "name", layer)
        wrong = f"a {type(layer).__name__}, {name!r}"
    elif "call" in vars(layer):
        wrong = "a `call` that was set on the layer"
    elif layer.quantization_mode is not None:
        wrong = f"quantization_mode={layer.quantization_mode!r}"
    elif layer.activity_regularizer is not None:
        wrong = f"activity_regularizer={layer.activity_regularizer!r}"
    elif kind is keras.layers.Dense:
        if layer.activation not in _ACTIVATIONS:
            name = getattr(layer.activation, "__name__", layer.activation)
            wrong = f"activation={name}"
    elif kind is keras.layers.ReversibleEmbedding:
        if not kwargs.get("reverse"):
            wrong = "a call without `reverse=True`"
        elif layer.logit_soft_cap is not None:
            wrong = f"logit_soft_cap={layer.logit_soft_cap!r}"
    if wrong is not None:
        raise ValueError(
            "Expected a vocabulary head of which training can compute the "
            "logits in chunks: a `keras.layers.Dense` without activation or "
            "with `keras.activations.softmax`, a "
            "`keras.layers.ReversibleEmbedding` called with `reverse=True`, or "
            "a `rdrop_keras.layers.AdaptiveSoftmax`, and no class that changes "
            f"what one of them does. Received: {wrong}. Compile with "
            "`rdrop=RDrop(..., vocabulary_chunk=None)`."
        )


def _kind(layer: Any) -> type | None:
    """Returns the head that a layer is, or None."""
    if isinstance(layer, AdaptiveSoftmax):
        # Chunks ask for its `adaptive_weights`, as its `call` does.
        calls = type(layer).call is AdaptiveSoftmax.call
        return AdaptiveSoftmax if calls else None
    for kind in HEADS:
        if isinstance(layer, kind):
            classes = type(layer).__mro__
            derived = classes[: classes.index(kind)]
            # KerasHub's embedding is a class of its own that adds nothing.
            return None if any(map(_defines_something, derived)) else kind
    return None


def _defines_something(cls: type) -> bool:
    """Whether a class has methods or properties of its own."""
    return any(
        callable(value) or hasattr(value, "__get__")
        for value in vars(cls).values()
    )


def head_and_input(
    layer: keras.layers.Layer, hidden: Any
) -> tuple[HeadWeights | AdaptiveSoftmaxHead, Any]:
    """Returns a head and its input in the dtype that it computes in.

    To be called where the layer would be, whose `call` depends on the model
    around it for the dtype of its variables.
    """
    if isinstance(layer, AdaptiveSoftmax):
        hidden = ops.cast(hidden, layer.compute_dtype)
        return AdaptiveSoftmaxHead(layer), hidden
    bias, transposed, activated, product = None, False, False, None
    scope = _keras.autocast_scope(layer)
    with scope:
        # LoRA makes a tensor of three variables here.
        if isinstance(layer, keras.layers.Dense):
            kernel = layer.kernel
            bias = layer.bias if layer.use_bias else None
            activated = layer.activation is keras.activations.softmax
        else:
            transposed = layer.tie_weights
            kernel = (
                layer.embeddings if transposed else layer.reverse_embeddings
            )
            product = layer.reverse_dtype
        if layer.autocast:
            hidden = ops.cast(hidden, layer.compute_dtype)
        dtype = kernel.dtype
        if isinstance(kernel, keras.Variable) and scope.dtype is not None:
            dtype = scope.dtype
        if product is None:
            product = keras.backend.result_type(hidden.dtype, dtype)
        product = keras.backend.standardize_dtype(product)
        if dtype != product:
            # The scope rounds them, as the layer's call would see them.
            kernel = ops.copy(kernel)
            bias = None if bias is None else ops.copy(bias)
    hidden = ops.cast(hidden, product)
    return HeadWeights(kernel, bias, transposed, activated), hidden
