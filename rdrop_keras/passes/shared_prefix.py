"""What no dropout reaches, run once for all passes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.dropout import stochastic_layers

# Their layers say by rates and seeds whether they draw random numbers. Those
# of others may draw them in any way.
_TRUSTED = ("keras", "keras_hub")
# Keras's own, but what they run is someone else's.
_FOREIGN = (
    "FlaxLayer",
    "JaxLayer",
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
)


class Cut(NamedTuple):
    """Where the randomness of a functional model begins.

    Attributes:
        fixed: For each call of an operation, in the order in which the model
            makes them, whether it comes to the same in every pass.
        frontier: The names of the layers whose outputs go from what is the
            same in every pass to what is not.
        stochastic: The name of the first layer that may draw random numbers.
    """

    fixed: list[bool]
    frontier: list[str]
    stochastic: str


def cut(model: keras.Model) -> Cut | None:
    """Finds where the randomness of a functional model begins.

    Returns:
        A `Cut`, or None if the model is not functional, or nothing comes
        before its first stochastic layer.
    """
    graph = _keras.graph_of(model)
    if graph is None:
        return None
    known = {id(tensor) for tensor in graph.inputs}
    frontier: dict[str, None] = {}
    fixed: list[bool] = []
    first = None
    for node in _keras.nodes(graph):
        same = _is_fixed(node.operation) and all(
            id(tensor) in known for tensor in node.input_tensors
        )
        fixed.append(same)
        if same:
            known |= {id(tensor) for tensor in node.outputs}
            continue
        first = first or node.operation.name
        for tensor in node.input_tensors:
            if id(tensor) in known:
                frontier[_keras.operation_of(tensor).name] = None
    if first is None or not any(fixed):
        return None
    return Cut(fixed, list(frontier), first)


class Once:
    """Results that later passes take from the first.

    Handed to a model for one step. What it computes by
    `RDropMixin.compute_once` is kept in the first pass, in the order of the
    calls, and handed out in the others.
    """

    def __init__(self):
        self._results: list[tuple[Any, list[Any]]] = []
        self._next: int | None = None

    def begin_pass(self, index: int) -> None:
        """Starts the first pass, or one that repeats it."""
        self._next = None if index == 0 else 0

    @property
    def used(self) -> bool:
        """Whether anything was computed by it."""
        return bool(self._results)

    def __call__(self, function: Callable[[], Any]) -> Any:
        """Returns what a function returned in the first pass."""
        if self._next is None:
            result = function()
            leaves = keras.tree.flatten(result)
            masks = [_keras.mask_of(leaf) for leaf in leaves]
            self._results.append((result, masks))
            return result
        if self._next == len(self._results):
            raise ValueError(
                "Expected every pass to call `compute_once` as often as the "
                f"first, {self._next} times. Received one more."
            )
        result, masks = self._results[self._next]
        self._next += 1
        # Attention takes the masks off the tensors that it was given.
        for leaf, mask in zip(keras.tree.flatten(result), masks):
            _keras.carry_mask(leaf, mask)
        return result


def shared_calls(model: keras.Model, x: Any) -> Callable[[int], Any]:
    """Returns what runs the pass of an index, the prefix in the first alone.

    Args:
        model: A model whose `call` takes `training`.
        x: A batch of inputs, of any structure.

    Raises:
        ValueError: If the model is neither functional, with something before
            its first stochastic layer, nor uses `compute_once`.
    """
    if not model.built:
        # Else the first pass builds it, by a call in a graph of its own, and
        # what that computes is of no use here.
        model(x, training=False)
    found = cut(model)
    once = Once()
    terms: list[int] = []

    def from_first(position, operation):
        if not found.fixed[position]:
            return operation
        return lambda *args, **kwargs: once(lambda: operation(*args, **kwargs))

    def run(index: int) -> Any:
        once.begin_pass(index)
        graph = contextlib.nullcontext()
        if found is not None:
            graph = _keras.replacing_operations(model, from_first)
        with graph, _computing(model, once):
            output = model(x, training=True)
        if not once.used:
            raise ValueError(_NOTHING_SHARED)
        terms.append(len(model.losses))
        if terms[-1] != terms[0]:
            raise ValueError(
                "Expected no `add_loss` and no activity regularizer in what "
                f"all passes share. Received {terms[0]} terms in the first "
                f"pass and {terms[-1]} in another. Compile with "
                "`rdrop=RDrop(..., passes='calls')`."
            )
        return output

    return run


@contextlib.contextmanager
def _computing(model: keras.Model, once: Once) -> Iterator[None]:
    model._rdrop_once = once
    try:
        yield
    finally:
        model._rdrop_once = None


def _is_fixed(operation: Any) -> bool:
    """Whether an operation gives the same outputs in every pass.

    Whatever `training` it was called with in the graph: a functional model
    replaces that by its own (Keras 3.15), so that the dropout of a backbone
    called with `training=False` is on in `fit`.
    """
    if type(operation).__module__.split(".")[0] not in _TRUSTED:
        return False
    if not isinstance(operation, keras.layers.Layer):
        return True
    layers = [operation, *_keras.all_layers(operation)]
    # Its loss belongs to each pass, but would be added in the first alone.
    if any(layer.activity_regularizer is not None for layer in layers):
        return False
    if any(
        type(layer).__module__.split(".")[0] not in _TRUSTED
        or type(layer).__name__ in _FOREIGN
        for layer in layers
    ):
        return False
    return not any(
        any(rates.values()) or not rates
        for _, rates in stochastic_layers(operation, include_self=True)
    )


_NOTHING_SHARED = (
    "Expected something that all passes can share. Received a model that is "
    "not functional, or begins with a layer that may draw random numbers "
    "(dropout, noise, random augmentation, or a layer of your own), and that "
    "computes nothing by `self.compute_once(function, ...)`. Compile with "
    "`rdrop=RDrop(..., passes='calls')`, or say in `call` what comes before "
    "the first dropout."
)
