"""Everything of Keras that we use and that Keras does not make public.

One function each, with the reason. `tests/test_keras_internals.py` fails when
a Keras release takes one of them away.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
from keras.src import backend
from keras.src.backend.common import global_state
from keras.src.losses.loss import squeeze_or_expand_to_same_rank as same_rank
from keras.src.random import seed_generator

from rdrop_keras._context import ForModel

# `keras.Model(inputs, outputs)` returns one, but no public name gives the
# class, and `RDropModel(inputs, outputs)` has to be one from the start:
# otherwise Keras rewrites `RDropModel.__bases__` for good, and no subclass of
# it can be defined after that (keras-team/keras#17270).
# isort: split
from keras.src.models import cloning
from keras.src.models.functional import Functional
from keras.src.models.functional import functional_like_constructor

__all__ = [
    "Functional",
    "all_layers",
    "autocast_scope",
    "carry_logits",
    "carry_mask",
    "clones_as_plain",
    "compile_config",
    "compiled_loss",
    "computed_logits",
    "global_seed_generator",
    "graph_of",
    "has_built_metrics",
    "is_cloning",
    "is_seed_state",
    "logs_of_training",
    "loss_entries",
    "loss_tracker",
    "mask_of",
    "nodes",
    "operation_of",
    "options_of_function",
    "refuse_h5",
    "rewired",
    "same_rank",
    "seed_generators",
    "values_in_order",
    "weighted_sum_of_losses",
]


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields every layer at any depth; `Model.layers` gives the top level."""
    yield from model._flatten_layers(include_self=False)


def autocast_scope(layer: keras.layers.Layer) -> Any:
    """Returns the scope that a layer's `call` would read its variables in.

    `Layer.__call__` enters it, and no public name tells it. A layer that does
    not cast its inputs, as embeddings do not, does not cast its variables
    either in a model that casts, but does in one that does not.
    """
    casts = layer.compute_dtype != layer.variable_dtype
    if backend.get_autocast_scope() is not None:
        casts = layer.autocast
    return backend.AutocastScope(layer.compute_dtype if casts else None)


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


def clones_as_plain(model: keras.Model) -> bool:
    """Whether `keras.models.clone_model` makes a model of a plain class.

    It has `Sequential` and `Functional` hard-coded for these, and makes other
    models by the name of their class, which may be that of another class.
    """
    if isinstance(model, keras.Sequential):
        return True
    if isinstance(model, Functional):
        return not functional_like_constructor(type(model))
    name = keras.saving.get_registered_name(type(model))
    named = keras.saving.get_registered_object(name)
    return named not in (None, type(model))


def is_cloning() -> bool:
    """Whether `keras.models.clone_model` is what has called us.

    It asks a model for its `get_compile_config` as saving does, and hands the
    config to a model of another class.
    """
    frame = inspect.currentframe()
    for _ in range(12):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == cloning.__name__:
            return True
        frame = frame.f_back
    return False


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


def options_of_function(loss: Any) -> dict[str, Any]:
    """Returns what a loss that is made of a function hands to it.

    `get_config` has the same among other things, serialized.
    """
    return getattr(loss, "_fn_kwargs", {})


def loss_tracker(model: keras.Model) -> keras.metrics.Metric | None:
    """Returns the metric that Keras logs as `loss`.

    By name it cannot be told from one that a model brings itself, and a model
    with its own `metrics` does not list it.
    """
    return getattr(model, "_loss_tracker", None)


def values_in_order(model: keras.Model, logs: dict[str, Any]) -> Any:
    """Returns logs as `train_on_batch` does without `return_dict`.

    A list in the order of the model's metrics, or a scalar where there is one
    value.
    """
    return model._flatten_metrics_in_order(logs)


def is_seed_state(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`.

    Any object may hold such a generator, so that the state cannot be found by
    going through layers. Keras gives it this name and no other mark.
    """
    return variable.name == "seed_generator_state"


def compiled_loss(model: keras.Model) -> Any:
    """Returns the object that `compile(loss=...)` made, or None."""
    return getattr(model, "_compile_loss", None)


def seed_generators(layer: keras.layers.Layer) -> list[Any]:
    """Returns the seed generators that a layer holds itself, in lists too.

    `Layer.variables` has their states, and those of its sublayers' as well.
    """
    return layer._seed_generators


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


class LossEntry(NamedTuple):
    """One of the losses that a model is compiled with, and its batch.

    Attributes:
        loss: The `keras.losses.Loss`.
        name: The name of its output.
        weight: Its loss weight, or None.
        y_true: Its targets.
        y_pred: Its output, a tensor or a structure of tensors.
        sample_weight: Its sample weights, or None.
    """

    loss: Any
    name: str
    weight: Any
    y_true: Any
    y_pred: Any
    sample_weight: Any


def loss_entries(
    compiled: Any, y_true: Any, y_pred: Any, sample_weight: Any
) -> list[LossEntry]:
    """Returns the losses of a built compiled loss, each with its batch.

    Keras pairs losses, outputs, targets and sample weights of any nesting in
    its private `CompileLoss.call`. This runs the same code, with each loss
    replaced by a function that records its arguments.
    """
    entries: list[LossEntry] = []

    def recorder(entry):
        def record(*batch):
            entries.append(
                LossEntry(entry.loss, entry.name, entry.loss_weights, *batch)
            )
            return keras.ops.zeros(())

        return record

    _with_losses(compiled, recorder, feed_metrics=False)(
        y_true, y_pred, sample_weight
    )
    return entries


def weighted_sum_of_losses(
    compiled: Any,
    values: Sequence[Any],
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
) -> Any:
    """Returns the compiled loss whose single losses have these values.

    Keras's code multiplies the loss weights, and feeds the values to the
    metrics that it keeps for the loss of each output.

    Args:
        compiled: What `compiled_loss` returned, after its first call.
        values: A value for each of `loss_entries`.
        y_true: The targets.
        y_pred: The outputs.
        sample_weight: The sample weights.
    """
    remaining = iter(values)
    replaced = _with_losses(
        compiled, lambda entry: lambda *batch: next(remaining)
    )
    return replaced(y_true, y_pred, sample_weight)


def _with_losses(
    compiled: Any,
    replace: Callable[[Any], Callable[..., Any]],
    feed_metrics: bool = True,
) -> Callable[[Any, Any, Any], Any]:
    # `copy.copy` would go through the saving hooks of `keras.losses.Loss`.
    clone = object.__new__(type(compiled))
    clone.__dict__.update(compiled.__dict__)
    clone._flat_losses = [
        entry._replace(loss=replace(entry)) for entry in compiled._flat_losses
    ]
    if not feed_metrics:
        # One falsy entry for each loss: Keras zips losses with metrics.
        clone._metrics = [None] * len(clone._flat_losses)
    return clone
