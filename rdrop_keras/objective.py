"""The R-Drop objective: from the outputs of several passes to one loss."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.comparison import Comparison
from rdrop_keras.items import check_ignored
from rdrop_keras.items import counted_items
from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.functional import weighted_sum
from rdrop_keras.losses.inference import divergence_for
from rdrop_keras.losses.inference import ignored_class
from rdrop_keras.outputs import check_names
from rdrop_keras.outputs import check_same_for_all
from rdrop_keras.outputs import of_output
from rdrop_keras.rdrop import RDrop

ops = keras.ops


class Consistency(NamedTuple):
    """The divergence between passes and what was seen on the way.

    Attributes:
        value: The divergence, a scalar.
        weighted: The same times alpha, each output times its own.
        identical: 1.0 if all passes gave the same outputs, else 0.0.
        improper: 1.0 if outputs that are read as probabilities are none.
    """

    value: Any
    weighted: Any
    identical: Any
    improper: Any


class Objective(NamedTuple):
    """The loss of one batch and its parts.

    Attributes:
        loss: What is minimised, `task_loss + consistency.weighted / m`.
        task_loss: Mean over the passes of what `compute_loss` returned.
        consistency: The `Consistency` of the passes, unweighted.
        active: 1.0, or 0.0 where there was one pass and no consistency.
    """

    loss: Any
    task_loss: Any
    consistency: Consistency
    active: Any


def combine(task_losses: Sequence[Any], consistency: Consistency) -> Objective:
    """Returns the loss of several passes and its parts."""
    task_loss = weighted_sum(task_losses, 0.0, 0.0)
    loss = weighted_sum(task_losses, consistency.weighted, 1.0)
    return Objective(loss, task_loss, consistency, ops.ones((), "float32"))


def loss_of_pass(
    model: Any,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    training: bool = True,
) -> Any:
    """Returns what a model's `compute_loss` makes of one output."""
    # Overrides from before Keras 3.3 do not take `training`.
    parameters = inspect.signature(model.compute_loss).parameters
    given = {"training": training} if "training" in parameters else {}
    return model.compute_loss(x, y, y_pred, sample_weight, **given)


def plain_objective(task_loss: Any) -> Objective:
    """Returns the objective of a step that has one pass."""
    zero = ops.zeros((), "float32")
    task_loss = ops.cast(task_loss, consistency_dtype())
    nothing = ops.zeros_like(task_loss)
    nothing = Consistency(nothing, nothing, zero, zero)
    return Objective(task_loss, task_loss, nothing, zero)


def measure_consistency(
    compiled_loss: Any,
    settings: RDrop,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any = None,
    alpha: Any = 1.0,
) -> Consistency:
    """Returns the divergence between the outputs of several passes.

    Each output that has a compiled loss is compared by the divergence that
    belongs to that loss, and reduced with the same mask, sample weights, loss
    weight and division.

    Args:
        compiled_loss: What `compile(loss=...)` made, or None for a model that
            computes its loss itself; the divergence of the settings then
            applies to every output.
        settings: How to compare.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.
        alpha: What `RDrop.alpha_at` returned.

    Returns:
        A `Consistency`.
    """
    for other in outputs[1:]:
        keras.tree.assert_same_structure(outputs[0], other)
    flat = [keras.tree.flatten(output) for output in outputs]
    # Keras hands the very tensors of the first pass to its losses, so that
    # their identity finds the same output of the other passes.
    comparisons = {id(leaves[0]): Comparison(leaves) for leaves in zip(*flat)}
    batch = (y, outputs[0], sample_weight)
    if compiled_loss is None:
        check_same_for_all(settings)
        check_ignored(settings, [])
        value = _compare_all(comparisons, settings, batch)
        weighted = _weigh(alpha, value)
    else:
        if not compiled_loss.built:
            # A custom `compute_loss` that does not use the compiled loss.
            compiled_loss(*batch)
        value, weighted = _compare_each(
            compiled_loss, comparisons, settings, batch, alpha
        )
    seen = [c for c in comparisons.values() if c.identical is not None]
    return Consistency(
        value=ops.cast(value, consistency_dtype()),
        weighted=ops.cast(weighted, consistency_dtype()),
        identical=_product([c.identical for c in seen]),
        improper=sum(c.improper for c in seen),
    )


def _compare_each(compiled_loss, comparisons, settings, batch, alpha):
    names, ignored, values = [], [], []

    def measure(task_loss, name):
        kind = of_output(settings.divergence, name, "auto")
        divergence = divergence_for(task_loss, kind)
        ignore = ignored_class(task_loss)
        names.append(name)
        ignored.append(ignore)

        def compare(y_true, y_pred, weight):
            valid, weight = counted_items(
                settings, ignore, y_true, y_pred, weight, divergence
            )
            value = comparisons[id(y_pred)].reduce(
                divergence, weight, valid, name, settings.stop_gradient
            )
            values.append(value)
            return value

        return compare

    compare_outputs = _keras.with_losses(compiled_loss, measure)
    check_names(settings, names)
    check_ignored(settings, ignored)
    value = compare_outputs(*batch)
    if not isinstance(alpha, dict):
        return value, _weigh(alpha, value)
    remaining = iter(values)

    def weigh(task_loss, name):
        return lambda *batch: _weigh(alpha[name], next(remaining))

    # Once more through Keras's code, which multiplies the loss weights.
    return value, _keras.with_losses(compiled_loss, weigh)(*batch)


def _compare_all(comparisons, settings, batch):
    _, y_pred, sample_weight = batch
    weights = [sample_weight] * len(comparisons)
    if keras.tree.is_nested(sample_weight):
        keras.tree.assert_same_structure(y_pred, sample_weight)
        weights = keras.tree.flatten(sample_weight)
    divergence = divergence_for(None, settings.divergence)
    total = 0.0
    for comparison, weight in zip(comparisons.values(), weights):
        valid, weight = counted_items(
            settings, None, None, comparison.outputs[0], weight, divergence
        )
        total += comparison.reduce(
            divergence, weight, valid, stop_gradient=settings.stop_gradient
        )
    return total


def _weigh(alpha, value):
    dtype = consistency_dtype()
    return ops.cast(alpha, dtype) * ops.cast(value, dtype)


def _product(factors):
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result
