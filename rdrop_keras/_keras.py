"""Everything of Keras that we use and that Keras does not make public.

One function each, with the reason. `tests/test_keras_internals.py` fails when
a Keras release takes one of them away.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

# `keras.Model(inputs, outputs)` returns one, but no public name gives the
# class, and `RDropModel(inputs, outputs)` has to be one from the start:
# otherwise Keras rewrites `RDropModel.__bases__` for good, and no subclass of
# it can be defined after that (keras-team/keras#17270).
# isort: split
from keras.src.models.functional import Functional

__all__ = [
    "Functional",
    "all_layers",
    "carry_logits",
    "carry_mask",
    "compile_config",
    "compiled_loss",
    "computed_logits",
    "global_seed_generator",
    "graph_of",
    "has_built_metrics",
    "is_saving",
    "logs_of_training",
    "mask_of",
    "nodes",
    "operation_of",
    "refuse_h5",
    "replacing_operations",
    "with_losses",
]


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields every layer at any depth; `Model.layers` gives the top level."""
    yield from model._flatten_layers(include_self=False)


def mask_of(tensor: Any) -> Any:
    """Returns the mask that Keras attached to a tensor, or None.

    Layers hand masks to losses by this attribute; the public `compute_mask`
    would need every intermediate tensor again.
    """
    return getattr(tensor, "_keras_mask", None)


def carry_mask(tensor: Any, mask: Any) -> Any:
    """Attaches a mask where `keras.losses.Loss` looks for it."""
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def computed_logits(tensor: Any) -> Any:
    """Returns the logits a softmax or sigmoid output was made from, or None.

    `keras.activations.softmax` and `sigmoid` leave them on their result, and
    Keras's own crossentropies prefer them to the rounded probabilities.
    """
    return getattr(tensor, "_keras_logits", None)


def carry_logits(tensor: Any, logits: Any) -> Any:
    """Attaches logits where Keras's crossentropies look for them."""
    tensor._keras_logits = logits
    return tensor


def has_built_metrics(model: keras.Model) -> bool:
    """Whether the compiled metrics have seen an output yet, or there are none.

    Their result raises before.
    """
    compiled = model._compile_metrics
    return compiled is None or compiled.built


def is_saving() -> bool:
    """Whether Keras is writing a model to a file.

    `get_compile_config` is called for files and for clones alike. Only a file
    has a scope in which an object that occurs twice is written once.
    """
    return (
        global_state.get_global_attribute("shared_objects/id_to_config_map")
        is not None
    )


def logs_of_training(model: keras.Model) -> dict[str, Any]:
    """Returns the logs of all metrics but the compiled ones.

    `Model.get_metrics_result` has them all, and no public name tells them
    apart.
    """
    compiled = model._compile_metrics
    logs = {}
    for metric in model.metrics:
        if metric is not compiled:
            result = metric.result()
            logs.update(
                result if isinstance(result, dict) else {metric.name: result}
            )
    return logs


def compiled_loss(model: keras.Model) -> Any:
    """Returns the object that `compile(loss=...)` made, or None."""
    return getattr(model, "_compile_loss", None)


def compile_config(model: keras.Model) -> Any:
    """Returns the object in which `compile` keeps its arguments, or None.

    Each call makes a new one. `Model.compiled` says nothing of the kind: it is
    True for a model that was loaded with a warning and not compiled.
    """
    return getattr(model, "_compile_config", None)


def global_seed_generator() -> Any:
    """Returns the generator of layers that have no seed of their own, or None.

    No model owns it, so that nothing else leads to its state.
    """
    return global_state.get_global_attribute(
        seed_generator.GLOBAL_SEED_GENERATOR
    )


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


@contextlib.contextmanager
def replacing_operations(
    model: keras.Model, replace: Callable[[int, Callable], Callable]
) -> Iterator[None]:
    """Lets a functional model call something else than its operations.

    `keras.Model(intermediate, outputs)` would be the public way to run a part
    of a graph. It fails where a layer is called on both sides of the cut, or
    an output is itself one of the inputs (Keras 3.15), and it adds nodes to
    the layers, after which their `output` is ambiguous.

    Args:
        model: What `graph_of` finds a graph for.
        replace: Given the position of a call among `nodes`, and the
            operation, returns what to call.
    """
    graph = graph_of(model)
    run = graph._run_through_graph
    replaced = graph.__dict__.get("_run_through_graph")

    def run_replaced(inputs, operation_fn, **kwargs):
        positions = itertools.count()
        return run(
            inputs,
            operation_fn=lambda operation: replace(
                next(positions), operation_fn(operation)
            ),
            **kwargs,
        )

    graph._run_through_graph = run_replaced
    try:
        yield
    finally:
        if replaced is None:
            del graph._run_through_graph
        else:
            graph._run_through_graph = replaced


def operation_of(tensor: Any) -> Any:
    """Returns the operation that made a symbolic tensor."""
    return tensor._keras_history.operation


def refuse_h5(model: keras.Model, message: str) -> None:
    """Makes saving a compiled model in the legacy format fail.

    That format keeps five arguments of `compile` and has no place for others.
    Nothing else of Keras reads `config`.
    """
    if compile_config(model) is not None:
        model._compile_config = _NotInH5(model._compile_config, message)


class _NotInH5:
    def __init__(self, config: Any, message: str):
        self.serialize = config.serialize
        self._message = message

    @property
    def config(self) -> dict[str, Any]:
        raise ValueError(self._message)


def with_losses(
    compiled: Any,
    replace: Callable[[keras.losses.Loss, str], Any],
    feed_metrics: bool = False,
) -> Callable[[Any, Any, Any], Any]:
    """Returns a copy of a built compiled loss with every loss replaced.

    The copy pairs outputs with targets, sample weights and loss weights
    exactly as the task loss does, for any nesting, since it is the same code.

    Args:
        compiled: What `compiled_loss` returned, after its first call.
        replace: Given a loss and its output's name, returns a callable
            `(y_true, y_pred, sample_weight)`.
        feed_metrics: Whether what these return goes into the metrics that
            Keras keeps for the loss of each output.
    """
    # `copy.copy` would go through the saving hooks of `keras.losses.Loss`.
    clone = object.__new__(type(compiled))
    clone.__dict__.update(compiled.__dict__)
    clone._flat_losses = [
        entry._replace(loss=replace(entry.loss, entry.name))
        for entry in compiled._flat_losses
    ]
    if not feed_metrics:
        # One falsy entry for each loss: Keras zips losses with metrics.
        clone._metrics = [None] * len(clone._flat_losses)
    return clone
