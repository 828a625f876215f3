"""Training passes that stop before the vocabulary head."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras._context import ForModel
from rdrop_keras.closed_form.heads import Head
from rdrop_keras.closed_form.heads import check_head
from rdrop_keras.closed_form.heads import head_and_input

ops = keras.ops

# The `Deferred` that `vocabulary_logits` uses while a model is called.
_deferred = ForModel("rdrop_keras_deferred")


class Deferred:
    """A stand-in for a vocabulary head that returns the head's input.

    Attributes:
        head: The head that was left out, after a pass.
    """

    def __init__(self):
        self.head: Head | None = None
        self._hidden: Any = None

    def __call__(
        self, layer: keras.layers.Layer, *args: Any, **kwargs: Any
    ) -> Any:
        """Returns the input of a head.

        Args:
            layer: The layer that computes the logits.
            *args: Its positional arguments.
            **kwargs: Its keyword arguments.
        """
        if self._hidden is not None:
            raise ValueError(
                "Expected one call of `vocabulary_logits` in each pass, with "
                "`vocabulary_chunk` as its last step. Received another, of "
                f"{layer.name}. {_WITHOUT}"
            )
        check_head(layer, kwargs)
        call = inspect.signature(layer.call).bind(*args, **kwargs)
        hidden = next(iter(call.arguments.values()))
        mask = _keras.mask_of(hidden)
        # The mask that the logits would carry: `ReversibleEmbedding` drops it.
        mask = layer.compute_mask(hidden, mask)
        self.head, hidden = head_and_input(layer, hidden)
        # A copy, so that `hidden_of` recognizes this very tensor.
        self._hidden = _keras.carry_mask(ops.copy(hidden), mask)
        return self._hidden

    def hidden_of(self, output: Any) -> Any:
        """Returns the hidden states that are the output of one pass.

        Raises:
            ValueError: If the output is not the input of the head.
        """
        leaves = keras.tree.flatten(output)
        if self._hidden is None:
            raise ValueError(_NO_HEAD)
        if len(leaves) != 1 or leaves[0] is not self._hidden:
            raise ValueError(_OTHER_OUTPUTS)
        self._hidden = None
        return leaves[0]


@contextlib.contextmanager
def deferring(
    model: Any,
) -> Iterator[tuple[Deferred, list[Callable[[int, Callable], Callable]]]]:
    """Makes a model's calls end before its vocabulary head.

    Args:
        model: An `RDropMixin` model: functional, or one whose `call` uses
            `vocabulary_logits`.

    Yields:
        The `Deferred` that receives the head's input, and the replacements
        with which to call a functional model (see `_keras.rewired`).
    """
    deferred = Deferred()
    found = head_position(model)
    replacements = []
    if found is not None:
        position, layer = found

        def end(index, operation):
            if index != position:
                return operation
            return lambda *args, **kwargs: deferred(
                layer, *args, **_without_training(kwargs)
            )

        replacements.append(end)
    with _deferred.set(model, deferred):
        yield deferred, replacements


def head_position(model: Any) -> tuple[int, keras.layers.Layer] | None:
    """Returns the last call of a functional model, or None.

    Returns:
        The position of the call among `_keras.nodes`, and its operation, which
        need not be a supported head. None if the model is not functional.
    """
    graph = _keras.graph_of(model)
    if graph is None:
        return None
    if len(graph.outputs) != 1:
        raise ValueError(_OTHER_OUTPUTS)
    for position, node in enumerate(_keras.nodes(graph)):
        if any(tensor is graph.outputs[0] for tensor in node.outputs):
            return position, node.operation
    return None


def _without_training(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != "training"}


def logits_or_hidden(
    model: Any,
    layer: Callable[..., Any],
    hidden: Any,
    kwargs: dict[str, Any],
) -> Any:
    """Returns the logits of a head, or its input if the head is left out."""
    deferred = _deferred.get(model)
    if deferred is None:
        return layer(hidden, **kwargs)
    return deferred(layer, hidden, **kwargs)


_NO_HEAD = (
    "Expected a vocabulary head with `vocabulary_chunk`. Received a model that "
    "is not functional with a `Dense`, `ReversibleEmbedding` or "
    "`AdaptiveSoftmax` layer as its last, and whose `call` does not compute "
    "its logits by `self.vocabulary_logits(layer, hidden)`. Do that, or "
    "compile with `rdrop=RDrop(..., vocabulary_chunk=None)`."
)

_WITHOUT = "Compile with `rdrop=RDrop(..., vocabulary_chunk=None)`."

_OTHER_OUTPUTS = (
    "Expected the logits of the vocabulary head to be the model's one output, "
    "since with `vocabulary_chunk` a training pass ends before them. Received "
    "a model that computes something else of them, or has other outputs. "
    f"{_WITHOUT}"
)
