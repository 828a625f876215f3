"""Passes that share the computations before the first dropout."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.calls import run_batch
from rdrop_keras.passes.determinism import is_deterministic
from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.once import Once
from rdrop_keras.passes.once import once
from rdrop_keras.passes.way import Batch
from rdrop_keras.passes.way import Way


class Cut(NamedTuple):
    """The point of a functional model where randomness begins.

    Attributes:
        fixed: For each call of an operation, in execution order, whether its
            result is the same in every pass.
        handed_on: The positions of the fixed calls whose results are inputs
            of calls that are not fixed; -1 stands for the inputs of the model.
        frontier: The names of the layers of these results, or of the inputs.
        stochastic: The name of the first layer that may draw random numbers.
    """

    fixed: list[bool]
    handed_on: set[int]
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
    # The positions of the calls that made them, -1 for the inputs.
    known = {id(tensor): -1 for tensor in graph.inputs}
    handed_on: set[int] = set()
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
            known |= {id(tensor): position for tensor in node.outputs}
            continue
        first = first or node.operation.name
        for tensor in node.input_tensors:
            if id(tensor) in known:
                handed_on.add(known[id(tensor)])
                frontier[_keras.operation_of(tensor).name] = None
    if first is None or not any(fixed):
        return None
    return Cut(fixed, handed_on, list(frontier), first)


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
        # Keras's own layers, which are all that is fixed, overwrite nothing.
        overwritten = position in found.handed_on
        return lambda *args, **kwargs: shared(
            lambda: operation(*args, **kwargs), overwritten
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


def shared_part(
    model: keras.Model, observation: Observation | None
) -> Cut | None:
    """Returns what all passes of a functional model share, or None."""
    return cut(model, () if observation is None else observation.drawing)


def _fits(model: keras.Model, observation: Observation | None) -> bool:
    # It costs no more than separate calls, and as little as a plain step
    # where the dropout is in the head (docs/results/performance.md).
    uses = observation is not None and observation.uses_compute_once
    return uses or shared_part(model, observation) is not None


def _describe(model: keras.Model, observation: Observation | None) -> str:
    found = shared_part(model, observation)
    if found is None:
        return "separate calls that share what `compute_once` computes"
    return (
        f"separate runs from {', '.join(found.frontier)} on, what comes before "
        f"once; first stochastic layer: {found.stochastic}"
    )


def _run(batch: Batch) -> list[Any]:
    drawing = batch.observation.drawing
    return run_batch(batch, shared_calls(batch.model, batch.call, drawing))


WAY = Way("shared_prefix", _fits, _describe, _run)
