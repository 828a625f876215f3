"""Vocabulary heads: the last layers whose loss is computed in chunks."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.closed_form.hidden import VocabularyLoss
from rdrop_keras.closed_form.hidden import vocabulary_rdrop_loss

ops = keras.ops

_ACTIVATIONS = (keras.activations.linear, keras.activations.softmax)


class Head:
    """The base class of heads, which compute their loss from their inputs.

    Attributes:
        activated: Whether the layer ends in a softmax rather than in logits.
        draws: Whether the layer has dropout of its own.
    """

    activated = False
    draws = False

    def check(self, label_smoothing: float, dropout_rates: Any) -> None:
        """Raises if the head does not support these settings."""

    def loss(
        self, labels: Any, hidden: Sequence[Any], alpha: Any, **options: Any
    ) -> VocabularyLoss:
        """Returns the objective, given the layer's input in each pass."""
        raise NotImplementedError


class HeadKind(NamedTuple):
    """A layer class whose instances can be vocabulary heads.

    Attributes:
        layer: The class.
        is_changed: A function that returns whether a subclass may compute
            something else.
        fault: A function that takes a layer and the keyword arguments of its
            call, and returns why it cannot be a head, or None.
        read: A function that takes a layer and its input, and returns the
            layer's `Head` and the input in the dtype of the computation.
    """

    layer: type
    is_changed: Callable[[type, type], bool]
    fault: Callable[[Any, dict[str, Any]], str | None]
    read: Callable[[Any, Any], tuple[Head, Any]]


class HeadWeights(Head):
    """A head that multiplies hidden states by a kernel.

    Args:
        kernel: `(width, vocabulary)`, or `(vocabulary, width)`.
        bias: `(vocabulary,)` or None.
        transposed: Whether the kernel is `(vocabulary, width)`, as embeddings
            are.
        activated: Whether a softmax follows.
    """

    def __init__(
        self, kernel: Any, bias: Any, transposed: bool, activated: bool
    ):
        self.kernel = kernel
        self.bias = bias
        self.transposed = transposed
        self.activated = activated

    def loss(
        self, labels: Any, hidden: Sequence[Any], alpha: Any, **options: Any
    ) -> VocabularyLoss:
        return vocabulary_rdrop_loss(
            labels,
            hidden,
            self.kernel,
            self.bias,
            alpha,
            self.transposed,
            **options,
        )


def check_head(layer: Any, kwargs: dict[str, Any]) -> None:
    """Raises unless training can compute a layer's loss in chunks.

    Args:
        layer: A layer, or another operation of a functional model.
        kwargs: The arguments of its call, without the input.
    """
    kind = _kind(layer)
    if kind is None:
        name = getattr(layer, "name", layer)
        wrong = f"a {type(layer).__name__}, {name!r}"
    elif "call" in vars(layer):
        wrong = "a `call` that was set on the layer"
    elif layer.quantization_mode is not None:
        wrong = f"quantization_mode={layer.quantization_mode!r}"
    elif layer.activity_regularizer is not None:
        wrong = f"activity_regularizer={layer.activity_regularizer!r}"
    else:
        wrong = kind.fault(layer, kwargs)
    if wrong is not None:
        raise ValueError(
            "Expected a vocabulary head whose logits training can compute "
            "in chunks: a `keras.layers.Dense` without activation or "
            "with `keras.activations.softmax`, a "
            "`keras.layers.ReversibleEmbedding` called with `reverse=True`, or "
            "a `rdrop_keras.layers.AdaptiveSoftmax`, and no class that changes "
            f"what one of them does. Received: {wrong}. Compile with "
            "`rdrop=RDrop(..., vocabulary_chunk=None)`."
        )


def head_and_input(layer: Any, hidden: Any) -> tuple[Head, Any]:
    """Returns a layer's head, and its input in the dtype of the computation.

    Must be called where the layer itself would be called, since the dtype of
    the layer's variables depends on the autocast scope of the model.
    """
    return _kind(layer).read(layer, hidden)


def _kind(layer: Any) -> HeadKind | None:
    for kind in HEAD_KINDS:
        if isinstance(layer, kind.layer):
            return None if kind.is_changed(type(layer), kind.layer) else kind
    return None


def _adds_something(cls: type, layer: type) -> bool:
    """Returns whether a subclass of `layer` defines methods or properties."""
    derived = cls.__mro__[: cls.__mro__.index(layer)]
    # KerasHub's `ReversibleEmbedding` is a subclass of Keras's, with no change.
    return any(
        callable(value) or hasattr(value, "__get__")
        for each in derived
        for value in vars(each).values()
    )


def _dense_fault(layer: Any, kwargs: dict[str, Any]) -> str | None:
    if layer.activation in _ACTIVATIONS:
        return None
    name = getattr(layer.activation, "__name__", layer.activation)
    return f"activation={name}"


def _embedding_fault(layer: Any, kwargs: dict[str, Any]) -> str | None:
    if not kwargs.get("reverse"):
        return "a call without `reverse=True`"
    if layer.logit_soft_cap is not None:
        return f"logit_soft_cap={layer.logit_soft_cap!r}"
    return None


def _read_weights(layer: Any, hidden: Any) -> tuple[HeadWeights, Any]:
    bias, transposed, activated, product = None, False, False, None
    scope = _keras.autocast_scope(layer)
    with scope:
        # With LoRA this computes the kernel from three variables.
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
            # The scope rounds the copies, as it would in the layer's call.
            kernel = ops.copy(kernel)
            bias = None if bias is None else ops.copy(bias)
    hidden = ops.cast(hidden, product)
    return HeadWeights(kernel, bias, transposed, activated), hidden


# `contrib` appends its own heads.
HEAD_KINDS = [
    HeadKind(layer, _adds_something, fault, _read_weights)
    for layer, fault in (
        (keras.layers.Dense, _dense_fault),
        (keras.layers.ReversibleEmbedding, _embedding_fault),
    )
]
