"""Which compiled losses have a closed form together with the consistency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.losses.categorical import CategoricalConsistency
from rdrop_keras.losses.divergence import Divergence
from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.inference import function_of
from rdrop_keras.losses.smoothed import LabelSmoothedCrossentropy

ops = keras.ops

# By type, since a subclass may compute something else.
_SPARSE = (
    keras.losses.SparseCategoricalCrossentropy,
    LabelSmoothedCrossentropy,
)
_DENSE = (keras.losses.CategoricalCrossentropy,)
_FUNCTIONS = {
    keras.losses.sparse_categorical_crossentropy: False,
    keras.losses.categorical_crossentropy: True,
}
# What every loss has in its config, and one compiled as a function besides.
_COMMON = {"name", "reduction", "dtype", "fn"}


class Fusion(NamedTuple):
    """A crossentropy that has a closed form beside the KL divergence.

    Attributes:
        dense: Whether its targets are distributions rather than class ids.
        label_smoothing: As the loss has it.
        label_included: Whether the label has a part of what smoothing takes
            from it, as in Keras's losses.
        ignore_class: The class id that it ignores, or None.
    """

    dense: bool
    label_smoothing: float
    label_included: bool
    ignore_class: int | None

    def smoothing(self, classes: int) -> float:
        """Returns the part of the probability that other classes get."""
        if self.label_included:
            return self.label_smoothing * (classes - 1) / classes
        return self.label_smoothing

    def fits(self, y_true: Any, logits: Sequence[Any]) -> bool:
        """Whether targets and logits have the shapes that the form is for."""
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


def fusion_for(task_loss: Any, divergence: Divergence) -> Fusion | None:
    """Returns how a task loss and a divergence go together, or None.

    Args:
        task_loss: The loss compiled for one output, or the function that it
            will be made of.
        divergence: What compares it.
    """
    if type(divergence) is not CategoricalConsistency or divergence.axis != -1:
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
