"""The graph of a functional model, run with some operations replaced."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

# `keras.Model(inputs, outputs)` returns one, but no public name gives the
# class, and `RDropModel(inputs, outputs)` has to be one from the start:
# otherwise Keras rewrites `RDropModel.__bases__` for good, and no subclass of
# it can be defined after that (keras-team/keras#17270).
from keras.src.models.functional import Functional

from rdrop_keras._context import ForModel


def graph_of(model: keras.Model) -> keras.Model | None:
    """Returns the functional model whose graph a model runs, or None.

    None if the model does anything else in its `call`. A sequential model has
    a functional one inside, which no public name gives.
    """
    if type(model).call is Functional.call:
        return model
    if type(model).call is keras.Sequential.call:
        return model._functional
    return None


def nodes(model: keras.Model) -> Iterator[Any]:
    """Yields the calls that a functional model makes, in their order.

    `Model.operations` has the operations in order, but not which of their
    calls belong to this model, nor on which tensors.
    """
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.operation and not node.is_input:
                yield node


_replacements = ForModel("rdrop_keras_replacements")


class _Rewiring:
    """Calls something else than the operations of a functional model.

    `keras.Model(intermediate, outputs)` would be the public way to run a part
    of a graph. It fails where a layer is called on both sides of the cut, or
    an output is itself one of the inputs (Keras 3.15), and it adds nodes to
    the layers, after which their `output` is ambiguous.
    """

    def _run_through_graph(self, inputs, operation_fn, **kwargs):
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
    # Of the model's own class, which may compute a mask of its own.
    return type(cls.__name__, (_Rewiring, cls), {"__module__": cls.__module__})


def rewired(
    model: keras.Model,
    replacements: Sequence[Callable[[int, Callable], Callable]],
) -> Callable[..., Any]:
    """Returns what calls a model with some operations of its graph replaced.

    The model itself stays as it is, for other threads too: the calls go
    through a second object that shares its state.

    Args:
        model: What `graph_of` finds a graph for.
        replacements: Each is given the position of a call among `nodes` and
            what would be called, and returns what to call.
    """
    graph = graph_of(model)
    other = object.__new__(_rewiring_class(type(graph)))
    object.__setattr__(other, "__dict__", graph.__dict__)

    def call(*args: Any, **kwargs: Any) -> Any:
        # Not an attribute, which would be the model's as well.
        with _replacements.set(other, replacements):
            return other(*args, **kwargs)

    return call
