"""The items of an output that count in the consistency, and their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.rdrop import ZERO_WEIGHT
from rdrop_keras.rdrop import RDrop

ops = keras.ops


def counted_items(
    settings: RDrop,
    ignore_class: int | None,
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
    divergence: Divergence,
) -> tuple[Any, Any]:
    """Returns the mask and the weights of one output's items for `compare`.

    Args:
        settings: The compiled settings, which say how unlabeled items are
            marked and how much they weigh.
        ignore_class: The class id that the task loss ignores, or None.
        y_true: The targets.
        y_pred: The output.
        sample_weight: The sample weights of the task loss, or None.
        divergence: The divergence that compares the output.

    Returns:
        The mask of the items that count, or None if all do; and their weights,
        or None.
    """
    labeled = valid_positions(y_true, ignore_class, y_pred, divergence)
    weight = settings.unlabeled_weight
    if settings.unlabeled == ZERO_WEIGHT:
        if sample_weight is not None:
            sample_weight = ops.cast(sample_weight, consistency_dtype())
            sample_weight = ops.where(sample_weight == 0, weight, sample_weight)
        return labeled, sample_weight
    if labeled is None or settings.unlabeled != ignore_class:
        return labeled, sample_weight
    if weight == 1.0:
        return None, sample_weight
    weights = ops.where(labeled, 1.0, weight)
    if sample_weight is not None:
        sample_weight = ops.cast(sample_weight, weights.dtype)
        while len(sample_weight.shape) < len(weights.shape):
            sample_weight = ops.expand_dims(sample_weight, -1)
        weights = weights * sample_weight
    return None, weights


def valid_positions(
    y_true: Any, ignore_class: int | None, y_pred: Any, divergence: Divergence
) -> Any:
    """Returns the mask of items that the task loss does not ignore, or None."""
    if ignore_class is None:
        return None
    # Keras's losses compare in this dtype as well: that of the labels may not
    # hold the ignored id, as uint8 does not hold -1.
    y_true = ops.cast(y_true, consistency_dtype())
    axis = getattr(divergence, "axis", -1)
    if len(y_true.shape) == len(y_pred.shape) and y_true.shape[axis] == 1:
        y_true = ops.squeeze(y_true, axis=axis)
    return ops.not_equal(y_true, ignore_class)


def check_ignored(
    settings: RDrop, ignored_classes: Sequence[int | None]
) -> None:
    """Raises if no task loss ignores the class that marks unlabeled items.

    The loss would train on that class id as if it were a label.
    """
    if settings.unlabeled in (None, ZERO_WEIGHT):
        return
    if settings.unlabeled not in ignored_classes:
        found = [c for c in ignored_classes if c is not None]
        raise ValueError(
            f"Expected a loss that ignores class {settings.unlabeled}, which "
            f"`unlabeled={settings.unlabeled}` says marks items without a "
            f"label. Received: ignore_class={found[0] if found else None}. "
            "Compile with `keras.losses.SparseCategoricalCrossentropy("
            f"ignore_class={settings.unlabeled})`, or give those items a "
            "sample weight of 0 and pass `RDrop(..., "
            f"unlabeled='{ZERO_WEIGHT}')`."
        )
