"""The R-Drop objective: from the outputs of several passes to one loss."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.for_loss import function_of
from rdrop_keras.divergences.for_loss import ignored_class
from rdrop_keras.divergences.for_loss import is_known
from rdrop_keras.divergences.reduction import reduce_values
from rdrop_keras.objective.by_output import check_names
from rdrop_keras.objective.by_output import check_same_for_all
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.counted_items import check_ignored
from rdrop_keras.objective.counted_items import counted_items
from rdrop_keras.objective.fusion import fused_losses
from rdrop_keras.objective.one_output import Comparison
from rdrop_keras.objective.one_output import compare
from rdrop_keras.objective.result import Consistency
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
    groups = loss_entries(compiled_loss, settings, y, outputs, sample_weight)
    return _sum_up(
        [(group[0], _compare(settings, group)) for group in groups], alpha
    )


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
    task_losses, compared = [], []
    groups = loss_entries(compiled_loss, settings, y, outputs, sample_weight)
    for group in groups:
        losses, values = None, None
        if settings.fused:
            losses, values = fused_losses(
                group, _divergence(settings, group[0]), settings.stop_gradient
            )
        if losses is None:
            losses = [
                each.loss(each.y_true, each.y_pred, each.sample_weight)
                for each in group
            ]
        task_losses.append(sum(losses) / len(losses))
        compared.append((group[0], _compare(settings, group, values)))
    task_loss = _keras.weighted_sum_of_losses(
        compiled_loss, task_losses, y, outputs[0], sample_weight
    )
    task_loss = ops.cast(task_loss, consistency_dtype())
    return task_loss, _sum_up(compared, alpha)


def loss_entries(
    compiled_loss: Any,
    settings: RDrop,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any,
) -> list[tuple[_keras.LossEntry, ...]]:
    """Returns each compiled loss with its batch, one entry a pass.

    Args:
        compiled_loss: What `compile(loss=...)` made, or None. Then there is
            one group for each output, without a loss.
        settings: What has to fit the outputs that have a loss.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.
    """
    for other in outputs[1:]:
        keras.tree.assert_same_structure(outputs[0], other)
    if compiled_loss is None:
        check_same_for_all(settings)
        check_ignored(settings, [])
        return _without_loss(outputs, sample_weight)
    # A custom `compute_loss` need not use the compiled loss.
    build_loss(compiled_loss, (y, outputs[0], sample_weight))
    passes = [
        _keras.loss_entries(compiled_loss, y, output, sample_weight)
        for output in outputs
    ]
    check_names(settings, [entry.name for entry in passes[0]])
    check_ignored(settings, [ignored_class(entry.loss) for entry in passes[0]])
    return list(zip(*passes))


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


def _without_loss(outputs, sample_weight):
    flat = [keras.tree.flatten(output) for output in outputs]
    weights = [sample_weight] * len(flat[0])
    if keras.tree.is_nested(sample_weight):
        keras.tree.assert_same_structure(outputs[0], sample_weight)
        weights = keras.tree.flatten(sample_weight)
    return [
        tuple(
            _keras.LossEntry(None, "output", None, None, leaf, weight)
            for leaf in leaves
        )
        for *leaves, weight in zip(*flat, weights)
    ]


def _divergence(settings: RDrop, entry: _keras.LossEntry) -> Divergence:
    kind = of_output(settings.divergence, entry.name, "auto")
    return divergence_for(entry.loss, kind)


def _compare(
    settings: RDrop, group: Sequence[_keras.LossEntry], values: Any = None
) -> list[Comparison]:
    """Compares what one loss is computed of, which may be several tensors."""
    entry = group[0]
    divergence = _divergence(settings, entry)
    task_rank = _task_rank(entry)
    # Keras's losses that are made of functions fit outputs and targets.
    fitted = function_of(entry.loss) is not None
    passes = [keras.tree.flatten(each.y_pred) for each in group]
    several = len(passes[0]) > 1
    compared = []
    for leaves in zip(*passes):
        target = None if several else entry.y_true
        valid, weight = counted_items(
            settings,
            ignored_class(entry.loss),
            target,
            leaves[0],
            entry.sample_weight,
            divergence,
        )
        compared.append(
            compare(
                leaves,
                divergence,
                weight,
                valid,
                entry.name,
                settings.stop_gradient,
                values,
                target if fitted else None,
                task_rank,
            )
        )
    return compared


def _task_rank(entry: _keras.LossEntry) -> int | None:
    """Returns the rank of what a loss computes before it is reduced.

    None where that is one value for each item that is compared, or where it
    cannot be known.
    """
    loss = entry.loss
    if loss is None or is_known(loss):
        return None
    if type(loss).__call__ is not keras.losses.Loss.__call__:
        return None

    def converted(structure):
        return keras.tree.map_structure(
            lambda x: ops.convert_to_tensor(x, dtype=loss.dtype), structure
        )

    # The scope drops what the loss may count.
    with keras.StatelessScope():
        values = loss.call(converted(entry.y_true), converted(entry.y_pred))
    return len(ops.shape(values))


def _sum_up(
    compared: Sequence[tuple[_keras.LossEntry, Sequence[Comparison]]],
    alpha: Any,
) -> Consistency:
    dtype = consistency_dtype()
    total, weighted = ops.zeros((), dtype), ops.zeros((), dtype)
    by_output: dict[str, Any] = {}
    for entry, parts in compared:
        value = sum(ops.cast(part.value, dtype) for part in parts)
        by_output[entry.name] = by_output.get(entry.name, 0.0) + value
        if entry.weight is not None:
            value = ops.multiply(value, entry.weight)
        own_alpha = alpha[entry.name] if isinstance(alpha, dict) else alpha
        total = total + value
        weighted = weighted + ops.cast(own_alpha, dtype) * value
    return Consistency(
        value=total,
        weighted=weighted,
        by_output=by_output if len(compared) > 1 else {},
        compared=tuple(part for _, parts in compared for part in parts),
    )
