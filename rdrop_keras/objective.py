"""The R-Drop objective: from the outputs of several passes to one loss."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.comparison import Comparison
from rdrop_keras.fusion import fusion_for
from rdrop_keras.items import check_ignored
from rdrop_keras.items import counted_items
from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.inference import divergence_for
from rdrop_keras.losses.inference import ignored_class
from rdrop_keras.losses.reduction import reduce_values
from rdrop_keras.outputs import check_names
from rdrop_keras.outputs import check_same_for_all
from rdrop_keras.outputs import of_output
from rdrop_keras.parts import Consistency
from rdrop_keras.rdrop import RDrop

ops = keras.ops


def additional_losses(model: Any) -> Any:
    """Returns the sum of what layers added to the loss in the last call.

    Weight regularizers and `add_loss`, divided by the number of replicas as
    Keras divides them.
    """
    total = ops.zeros((), consistency_dtype())
    for loss in model.losses:
        total = total + ops.cast(ops.sum(loss), total.dtype)
    return reduce_values(ops.expand_dims(total, 0), "sum_over_batch_size")


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
    comparisons = _comparisons(outputs)
    batch = (y, outputs[0], sample_weight)
    return _measure(compiled_loss, settings, comparisons, batch, alpha)


def compare_with_loss(
    compiled_loss: Any,
    settings: RDrop,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any = None,
    alpha: Any = 1.0,
) -> tuple[Any, Consistency]:
    """Returns the compiled loss, averaged over passes, and the divergence.

    Computes the two together where they have a closed form. Everything else
    is what the compiled loss makes of each pass.

    Args:
        compiled_loss: What `compile(loss=...)` made.
        settings: How to compare.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.
        alpha: What `RDrop.alpha_at` returned.
    """
    comparisons = _comparisons(outputs)
    batch = (y, outputs[0], sample_weight)
    build_loss(compiled_loss, batch)

    def average(task_loss, name):
        def over_passes(y_true, y_pred, weight):
            comparison = comparisons[id(y_pred)]
            losses = _fused_losses(
                task_loss, name, comparison, settings, y_true, weight
            )
            if losses is None:
                losses = [
                    task_loss(y_true, output, weight)
                    for output in comparison.outputs
                ]
            return sum(losses) / len(losses)

        return over_passes

    compute = _keras.with_losses(compiled_loss, average, feed_metrics=True)
    task_loss = ops.cast(compute(*batch), consistency_dtype())
    return task_loss, _measure(
        compiled_loss, settings, comparisons, batch, alpha
    )


def _fused_losses(task_loss, name, comparison, settings, y_true, weight):
    kind = of_output(settings.divergence, name, "auto")
    fusion = fusion_for(task_loss, divergence_for(task_loss, kind))
    if fusion is None:
        return None
    logits = comparison.logits(getattr(task_loss, "from_logits", False))
    if logits is None or not fusion.fits(y_true, logits):
        return None
    return comparison.fused_losses(
        fusion,
        logits,
        y_true,
        weight,
        task_loss.reduction,
        settings.stop_gradient,
    )


def _comparisons(outputs):
    for other in outputs[1:]:
        keras.tree.assert_same_structure(outputs[0], other)
    flat = [keras.tree.flatten(output) for output in outputs]
    # Keras hands the very tensors of the first pass to its losses, so that
    # their identity finds the same output of the other passes.
    return {id(leaves[0]): Comparison(leaves) for leaves in zip(*flat)}


def build_loss(compiled_loss: Any, batch: tuple[Any, Any, Any]) -> None:
    """Builds a compiled loss that has not been called yet.

    Args:
        compiled_loss: What `compile(loss=...)` made.
        batch: Targets, outputs and sample weights.
    """
    if compiled_loss.built:
        return
    # For its structure alone: the scope drops what it feeds to metrics.
    with keras.StatelessScope():
        compiled_loss(*batch)


def _measure(compiled_loss, settings, comparisons, batch, alpha):
    if compiled_loss is None:
        check_same_for_all(settings)
        check_ignored(settings, [])
        value = _compare_all(comparisons, settings, batch)
        weighted = _weigh(alpha, value)
    else:
        # A custom `compute_loss` need not use the compiled loss.
        build_loss(compiled_loss, batch)
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
