"""The R-Drop objective: from the outputs of several passes to one loss."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.comparison import Comparison
from rdrop_keras.losses.divergence import Divergence
from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.functional import weighted_sum
from rdrop_keras.losses.inference import divergence_for
from rdrop_keras.losses.inference import ignored_class

ops = keras.ops


class Consistency(NamedTuple):
    """The divergence between passes and what was seen on the way.

    Attributes:
        value: The divergence, a scalar.
        identical: 1.0 if all passes gave the same outputs, else 0.0.
        improper: 1.0 if outputs that are read as probabilities are none.
    """

    value: Any
    identical: Any
    improper: Any


class Objective(NamedTuple):
    """The loss of one batch and its parts.

    Attributes:
        loss: What is minimised, `task_loss + alpha / m * consistency.value`.
        task_loss: Mean over the passes of what `compute_loss` returned.
        consistency: The `Consistency` of the passes, unweighted.
        active: 1.0, or 0.0 where there was one pass and no consistency.
    """

    loss: Any
    task_loss: Any
    consistency: Consistency
    active: Any


def combine(
    task_losses: Sequence[Any], consistency: Consistency, alpha: Any
) -> Objective:
    """Returns the loss of several passes and its parts."""
    task_loss = weighted_sum(task_losses, 0.0, 0.0)
    loss = weighted_sum(task_losses, consistency.value, alpha)
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
    nothing = Consistency(ops.zeros_like(task_loss), zero, zero)
    return Objective(task_loss, task_loss, nothing, zero)


def measure_consistency(
    compiled_loss: Any,
    divergence: str | Divergence,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any = None,
    stop_gradient: bool = False,
) -> Consistency:
    """Returns the divergence between the outputs of several passes.

    Each output that has a compiled loss is compared by the divergence that
    belongs to that loss, and reduced with the same mask, sample weights, loss
    weight and division.

    Args:
        compiled_loss: What `compile(loss=...)` made, or None for a model that
            computes its loss itself; `divergence` then applies to every
            output.
        divergence: As in `RDrop`.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.
        stop_gradient: As in `RDrop`.

    Returns:
        A `Consistency`.
    """
    for other in outputs[1:]:
        keras.tree.assert_same_structure(outputs[0], other)
    flat = [keras.tree.flatten(output) for output in outputs]
    # Keras hands the very tensors of the first pass to its losses, so that
    # their identity finds the same output of the other passes.
    comparisons = {id(leaves[0]): Comparison(leaves) for leaves in zip(*flat)}
    if compiled_loss is None:
        value = _compare_all(
            comparisons, divergence, outputs, sample_weight, stop_gradient
        )
    else:
        if not compiled_loss.built:
            # A custom `compute_loss` that does not use the compiled loss.
            compiled_loss(y, outputs[0], sample_weight)

        def replace(task_loss, name):
            chosen = divergence_for(task_loss, divergence)
            ignore = ignored_class(task_loss)

            def compare(y_true, y_pred, weight):
                comparison = comparisons[id(y_pred)]
                valid = valid_positions(y_true, ignore, y_pred, chosen)
                return comparison.reduce(
                    chosen, weight, valid, name, stop_gradient
                )

            return compare

        compare_outputs = _keras.with_losses(compiled_loss, replace)
        value = compare_outputs(y, outputs[0], sample_weight)
    seen = [c for c in comparisons.values() if c.identical is not None]
    return Consistency(
        value=ops.cast(value, consistency_dtype()),
        identical=_product([c.identical for c in seen]),
        improper=sum(c.improper for c in seen),
    )


def _compare_all(
    comparisons, divergence, outputs, sample_weight, stop_gradient
):
    weights = [sample_weight] * len(comparisons)
    if keras.tree.is_nested(sample_weight):
        keras.tree.assert_same_structure(outputs[0], sample_weight)
        weights = keras.tree.flatten(sample_weight)
    chosen = divergence_for(None, divergence)
    return sum(
        comparison.reduce(chosen, weight, stop_gradient=stop_gradient)
        for comparison, weight in zip(comparisons.values(), weights)
    )


def valid_positions(
    y_true: Any, ignore_class: int | None, y_pred: Any, divergence: Divergence
) -> Any:
    """Marks the positions that the task loss does not ignore, or None."""
    if ignore_class is None:
        return None
    y_true = ops.convert_to_tensor(y_true)
    axis = getattr(divergence, "axis", -1)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    return ops.not_equal(y_true, ops.cast(ignore_class, y_true.dtype))


def _product(factors):
    result = factors[0]
    for factor in factors[1:]:
        result = result * factor
    return result
