"""Passes that share the computations before the first dropout."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras._context import ForModel
from rdrop_keras.passes.determinism import is_deterministic

# The `Once` that `compute_once` uses while a model is called.
once = ForModel("rdrop_keras_once")


class Cut(NamedTuple):
    """The point of a functional model where randomness begins.

    Attributes:
        fixed: For each call of an operation, in execution order, whether its
            result is the same in every pass.
        frontier: The names of the layers whose fixed outputs are inputs of
            calls that are not fixed.
        stochastic: The name of the first layer that may draw random numbers.
    """

    fixed: list[bool]
    frontier: list[str]
    stochastic: str


def cut(model: keras.Model, drawing: Collection[int] = ()) -> Cut | None:
    """Finds where the randomness of a functional model begins.

    Args:
        model: Any model.
        drawing: The positions of the calls in its graph that drew random
            numbers when they were observed.

    Returns:
        A `Cut`, or None if the model is not functional, has no stochastic
        layer, or has no operation before it.
    """
    graph = _keras.graph_of(model)
    if graph is None:
        return None
    known = {id(tensor) for tensor in graph.inputs}
    frontier: dict[str, None] = {}
    fixed: list[bool] = []
    first = None
    for position, node in enumerate(_keras.nodes(graph)):
        same = (
            position not in drawing
            and all(id(tensor) in known for tensor in node.input_tensors)
            and is_deterministic(node)
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
    """Results of the first pass, which the other passes reuse.

    An object serves one training step. In the first pass it keeps the results
    of `RDropMixin.compute_once` in the order of the calls; in the other passes
    it returns them.

    Args:
        count_draws: A function that returns the number of random draws so far.
            By default draws are not counted.
    """

    def __init__(self, count_draws: Callable[[], int] = lambda: 0):
        self._count_draws = count_draws
        self._results: list[tuple[Any, list[Any]]] = []
        self._next: int | None = None

    def begin_pass(self, index: int) -> None:
        """Starts the first pass, or another that reuses its results."""
        self._next = None if index == 0 else 0

    @property
    def used(self) -> bool:
        """Whether there are results of the first pass."""
        return bool(self._results)

    def __call__(self, function: Callable[[], Any]) -> Any:
        """Returns the result of a function in the first pass."""
        if self._next is None:
            before = self._count_draws()
            result = function()
            if self._count_draws() > before:
                raise ValueError(
                    "Expected what `compute_once` computes to draw no random "
                    "numbers, since all passes take the result of the first. "
                    "Received a layer or function that does. Compute it "
                    "outside of `compute_once`."
                )
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
        # `MultiHeadAttention` removes the masks from its inputs.
        for leaf, mask in zip(keras.tree.flatten(result), masks):
            _keras.carry_mask(leaf, mask)
        return result


def shared_calls(
    model: keras.Model,
    call: Callable[[Sequence[Any]], Any],
    drawing: Collection[int] = (),
) -> Callable[[int], Any]:
    """Returns a function that runs one pass, the prefix only in the first.

    Args:
        model: A built model whose `call` takes `training`.
        call: A function that takes replacements for the operations of the
            model's graph (see `_keras.rewired`), and calls the model on a
            batch in training mode.
        drawing: The positions of the calls in its graph that drew random
            numbers when they were observed.

    Returns:
        A function that takes the index of a pass and returns its output. It
        raises `ValueError` if there is nothing that the passes can share.
    """
    found = cut(model, drawing)
    shared = Once()
    terms: list[int] = []

    def from_first(position, operation):
        if not found.fixed[position]:
            return operation
        return lambda *args, **kwargs: shared(
            lambda: operation(*args, **kwargs)
        )

    def run(index: int) -> Any:
        shared.begin_pass(index)
        with once.set(model, shared):
            output = call([] if found is None else [from_first])
        if not shared.used:
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


_NOTHING_SHARED = (
    "Expected something that all passes can share. Received a model that is "
    "not functional, or begins with a layer that may draw random numbers "
    "(dropout, noise, random augmentation, or a layer of your own), and that "
    "computes nothing by `self.compute_once(function, ...)`. Compile with "
    "`rdrop=RDrop(..., passes='calls')`, or say in `call` what comes before "
    "the first dropout."
)
