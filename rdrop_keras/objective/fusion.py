"""Compiled losses that have a closed form together with the consistency."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.closed_form.logits import class_ids
from rdrop_keras.closed_form.logits import fused_values
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.categorical import CategoricalConsistency
from rdrop_keras.divergences.for_loss import function_of
from rdrop_keras.divergences.for_loss import reads_logits
from rdrop_keras.divergences.label_smoothed import LabelSmoothedCrossentropy
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.divergences.reduction import reduce_values

ops = keras.ops

# Compared by exact type, since a subclass may compute something else.
_SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    LabelSmoothedCrossentropy,
)
_DENSE = (keras.losses.CategoricalCrossentropy,)
_FUNCTIONS = {
    keras.losses.sparse_categorical_crossentropy: False,
    keras.losses.categorical_crossentropy: True,
}
# The config of every loss; `fn` is in that of a loss compiled as a function.
_COMMON = {"name", "reduction", "dtype", "fn"}


class Fusion(NamedTuple):
    """A crossentropy that has a closed form together with the KL divergence.

    Attributes:
        dense: Whether its targets are distributions rather than class ids.
        label_smoothing: The `label_smoothing` of the loss.
        label_included: Whether the label receives a share of the smoothed
            probability too, as in Keras's losses.
        ignore_class: The class id that it ignores, or None.
    """

    dense: bool
    label_smoothing: float
    label_included: bool
    ignore_class: int | None

    def smoothing(self, classes: int) -> float:
        """Returns the probability that is shared by the other classes."""
        if self.label_included:
            return self.label_smoothing * (classes - 1) / classes
        return self.label_smoothing

    def fits(self, y_true: Any, logits: Sequence[Any]) -> bool:
        """Returns whether targets and logits fit the closed form."""
        shapes = [tuple(z.shape) for z in logits]
        if any(shape != shapes[0] for shape in shapes) or not shapes[0]:
            return False
        if any(
            "float" not in keras.backend.standardize_dtype(z.dtype)
            for z in logits
        ):
            return False
        *items, classes = shapes[0]
        if classes is None or classes < 2:
            return False
        shape = tuple(ops.convert_to_tensor(y_true).shape)
        if self.dense:
            return _agree(shape, shapes[0])
        return _agree(shape, items) or _agree(shape, (*items, 1))


def fused_losses(
    group: Sequence[_keras.LossEntry],
    divergence: Divergence,
    stop_gradient: bool,
) -> tuple[list[Any] | None, Any]:
    """Returns task losses and divergence of one output in closed form.

    Args:
        group: The entries of one compiled loss, one for each pass.
        divergence: The divergence of its output.
        stop_gradient: As in `RDrop`.

    Returns:
        The task loss of each pass and the divergence of every item, or
        `(None, None)` if there is no closed form.
    """
    task_loss, y_true = group[0].loss, group[0].y_true
    fusion = fusion_for(task_loss, divergence)
    if fusion is None or keras.tree.is_nested(group[0].y_pred):
        return None, None
    outputs = [each.y_pred for each in group]
    logits = _logits(outputs, reads_logits(task_loss))
    if logits is None or not fusion.fits(y_true, logits):
        return None, None
    target = ops.convert_to_tensor(y_true)
    valid = None
    if fusion.dense:
        target = ops.cast(target, consistency_dtype())
    else:
        if len(target.shape) == len(logits[0].shape):
            target = ops.squeeze(target, axis=-1)
        target, valid = class_ids(target, fusion.ignore_class, None)
    tasks, values = fused_values(
        target,
        logits,
        fusion.smoothing(logits[0].shape[-1]),
        fusion.dense,
        stop_gradient,
    )
    if valid is not None:
        tasks = [ops.where(valid, task, 0.0) for task in tasks]
    losses = [
        reduce_values(
            task,
            task_loss.reduction,
            each.sample_weight,
            common_mask([each.y_pred], valid),
        )
        for task, each in zip(tasks, group)
    ]
    return losses, values


def _logits(outputs: Sequence[Any], from_logits: bool) -> Sequence[Any] | None:
    """Returns the logits of each pass, or None if they are unavailable."""
    found = [_keras.computed_logits(output) for output in outputs]
    if from_logits:
        # If an activation follows the logits, `compare` raises an error.
        return None if any(z is not None for z in found) else outputs
    return None if any(z is None for z in found) else found


def fusion_for(task_loss: Any, divergence: Divergence) -> Fusion | None:
    """Returns the closed form of a task loss with a divergence, or None.

    Args:
        task_loss: The loss compiled for one output, or the function that Keras
            will wrap in a loss.
        divergence: The divergence of that output.
    """
    if type(divergence) is not CategoricalConsistency or divergence.axis != -1:
        return None
    if isinstance(getattr(task_loss, "fn", task_loss), functools.partial):
        # Its arguments are not in the config.
        return None
    if not isinstance(task_loss, keras.losses.Loss):
        dense = _FUNCTIONS.get(function_of(task_loss))
        return None if dense is None else Fusion(dense, 0.0, True, None)
    if getattr(task_loss, "dtype", None) != consistency_dtype():
        return None
    config = task_loss.get_config()
    if type(task_loss) in (*_SPARSE, *_DENSE):
        dense = type(task_loss) in _DENSE
    elif set(config) <= _COMMON and type(task_loss).__module__.startswith(
        "keras."
    ):
        dense = _FUNCTIONS.get(function_of(task_loss))
    else:
        dense = None
    if dense is None or config.get("axis", -1) != -1:
        return None
    return Fusion(
        dense,
        config.get("label_smoothing", 0.0),
        type(task_loss) is not LabelSmoothedCrossentropy,
        config.get("ignore_class"),
    )


def _agree(shape: Sequence[Any], expected: Sequence[Any]) -> bool:
    return len(shape) == len(expected) and all(
        a == b for a, b in zip(shape, expected) if None not in (a, b)
    )
