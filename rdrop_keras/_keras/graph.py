"""The graph of a functional model, and calls with some operations replaced."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

# The class of `keras.Model(inputs, outputs)`, which has no public name.
# `RDropModel(inputs, outputs)` must be an instance of it from the start:
# otherwise Keras permanently changes `RDropModel.__bases__`, and no subclass
# can be defined afterwards (keras-team/keras#17270).
from keras.src.models.functional import Functional

from rdrop_keras._context import ForModel


def graph_of(model: keras.Model) -> keras.Model | None:
    """Returns the functional model whose graph a model runs, or None.

    None if the model's class has a `call` of its own. A sequential model
    keeps its functional model in a private attribute.
    """
    if type(model).call is Functional.call:
        return model
    if type(model).call is keras.Sequential.call:
        return model._functional
    return None


def nodes(model: keras.Model) -> Iterator[Any]:
    """Yields the calls that a functional model makes, in execution order.

    `Model.operations` lists the operations in order, but does not tell which
    of their calls belong to this model or which tensors they take.
    """
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


_replacements = ForModel("rdrop_keras_replacements")


class _Rewiring:
    """A mixin that replaces the operations that a functional model calls.

    The public way to run a part of a graph is `keras.Model(intermediate,
    outputs)`. It fails if a layer is called on both sides of the cut or if an
    output is also an input (Keras 3.15), and it adds nodes to the layers,
    which makes their `output` ambiguous.
    """

    # Keras 3.16 passes no `operation_fn`. It used to add arguments of the call,
    # such as `training`, which the layers of 3.16 find by themselves.
    def _run_through_graph(self, inputs, operation_fn=lambda op: op, **kwargs):
        positions = itertools.count()

        def replaced(operation):
            function = operation_fn(operation)
            position = next(positions)
            for replace in _replacements.get(self):
                function = replace(position, function)
            return function

        return super()._run_through_graph(
            inputs, operation_fn=replaced, **kwargs
        )


@functools.cache
def _rewiring_class(cls: type) -> type:
    # Derived from the model's own class, which may override `compute_mask`.
    return type(cls.__name__, (_Rewiring, cls), {"__module__": cls.__module__})


def rewired(
    model: keras.Model,
    replacements: Sequence[Callable[[int, Callable], Callable]],
) -> Callable[..., Any]:
    """Returns a function that calls a model with some operations replaced.

    The model itself does not change, so that other threads can use it
    meanwhile: the calls go through a second object that shares its state.

    Args:
        model: A model for which `graph_of` returns a graph.
        replacements: Functions that take the position of a call among `nodes`
            and the operation to be called, and return the function to call
            instead.
    """
    graph = graph_of(model)
    other = object.__new__(_rewiring_class(type(graph)))
    object.__setattr__(other, "__dict__", graph.__dict__)

    def call(*args: Any, **kwargs: Any) -> Any:
        # Not an attribute: the two objects share their attributes.
        with _replacements.set(other, replacements):
            return other(*args, **kwargs)

    return call
