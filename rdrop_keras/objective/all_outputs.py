"""Task loss and consistency of all outputs of a model."""

from __future__ import annotations

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
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.counted_items import counted_items
from rdrop_keras.objective.entries import loss_entries
from rdrop_keras.objective.fusion import fused_losses
from rdrop_keras.objective.one_output import Comparison
from rdrop_keras.objective.one_output import compare
from rdrop_keras.objective.result import Consistency
from rdrop_keras.rdrop import RDrop

ops = keras.ops


def compare_outputs(
    compiled_loss: Any,
    settings: RDrop,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any = None,
    alpha: Any = 1.0,
    with_task_loss: bool = False,
) -> tuple[Any, Consistency]:
    """Returns the task loss and the consistency of several passes.

    Each output that has a compiled loss is compared by the divergence that
    belongs to that loss, and reduced with the same mask, sample weights, loss
    weight and division. Task loss and divergence are computed together if
    they have a closed form.

    Args:
        compiled_loss: The object made by `compile(loss=...)`, or None for a
            model that computes its loss itself; the divergence of the settings
            then applies to every output.
        settings: The compiled settings.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: The sample weights, as passed to `fit`.
        alpha: The result of `RDrop.alpha_at`.
        with_task_loss: Whether to compute the compiled loss too.

    Returns:
        The compiled loss, averaged over passes, or None; and a `Consistency`.
    """
    task_losses, compared = [], []
    for group in loss_entries(
        compiled_loss, settings, y, outputs, sample_weight
    ):
        divergence = _divergence(settings, group[0])
        losses, values = None, None
        if with_task_loss and settings.fused:
            losses, values = fused_losses(
                group, divergence, settings.stop_gradient
            )
        if with_task_loss and losses is None:
            losses = [
                each.loss(
                    *_to_spend(each),
                    _keras.weights_to_spend(
                        each.sample_weight, _keras.mask_of(each.y_pred)
                    ),
                )
                for each in group
            ]
        if losses is not None:
            task_losses.append(sum(losses) / len(losses))
        comparisons = _compare(settings, group, divergence, values)
        compared.append((group[0], comparisons))
    consistency = _sum_up(compared, alpha)
    if not with_task_loss:
        return None, consistency
    task_loss = _keras.weighted_sum_of_losses(
        compiled_loss, task_losses, y, outputs[0], sample_weight
    )
    return ops.cast(task_loss, consistency_dtype()), consistency


def _to_spend(entry: _keras.LossEntry) -> tuple[Any, Any]:
    """Returns targets and outputs for a call of a loss.

    A loss of the user's own may overwrite them, Keras's losses do not.
    """
    tensors = (entry.y_true, entry.y_pred)
    return tensors if is_known(entry.loss) else _keras.to_overwrite(tensors)


def _divergence(settings: RDrop, entry: _keras.LossEntry) -> Divergence:
    kind = of_output(settings.divergence, entry.name, "auto")
    return divergence_for(entry.loss, kind)


def _compare(
    settings: RDrop,
    group: Sequence[_keras.LossEntry],
    divergence: Divergence,
    values: Any,
) -> list[Comparison]:
    """Compares the output of one loss, which may have several tensors."""
    entry = group[0]
    task_rank = _task_rank(entry)
    # Keras's losses that wrap a function squeeze or expand the outputs to the
    # rank of the targets.
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
    """Returns the rank of a loss's values before their reduction.

    None if the loss has one value for each item that is compared, or if its
    rank is unknown.
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

    # The scope discards the state that the loss may update.
    with keras.StatelessScope():
        values = loss.call(*converted(_to_spend(entry)))
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
        by_output=by_output if len(by_output) > 1 else {},
        compared=tuple(part for _, parts in compared for part in parts),
    )
