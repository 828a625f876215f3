"""One output of a model, compared between passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.fusion import Fusion
from rdrop_keras.losses.categorical import CategoricalConsistency
from rdrop_keras.losses.divergence import DistributionDivergence
from rdrop_keras.losses.divergence import Divergence
from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.fused import class_ids
from rdrop_keras.losses.fused import fused_values
from rdrop_keras.losses.reduction import common_mask
from rdrop_keras.losses.reduction import reduce_values

ops = keras.ops


class Comparison:
    """One output of a model, as each of the passes gave it.

    Args:
        outputs: The output of each pass, with the masks that it carries.

    Attributes:
        identical: After `reduce`, 1.0 if all passes gave the same output.
        improper: After `reduce`, 1.0 if the output is read as probabilities
            and is none.
        count: After `reduce`, the number of items that count.
    """

    def __init__(self, outputs: Sequence[Any]):
        self.outputs = list(outputs)
        self._values = None
        self.identical = None
        self.improper = None
        self.count = None

    def logits(self, from_logits: bool) -> Sequence[Any] | None:
        """Returns the logits of each pass, or None if there are none.

        Args:
            from_logits: Whether the task loss reads the outputs as logits.
        """
        found = [_keras.computed_logits(output) for output in self.outputs]
        if from_logits:
            # With an activation behind them they are refused by `reduce`.
            activated = any(z is not None for z in found)
            return None if activated else self.outputs
        return None if any(z is None for z in found) else found

    def fused_losses(
        self,
        fusion: Fusion,
        logits: Sequence[Any],
        y_true: Any,
        sample_weight: Any,
        reduction: str | None,
        stop_gradient: bool,
    ) -> list[Any]:
        """Returns the task loss of each pass, and keeps the divergence.

        Args:
            fusion: What the task loss is.
            logits: What `logits` returned.
            y_true: Targets that fit it.
            sample_weight: The weights that the task loss gets.
            reduction: The task loss's.
            stop_gradient: As in `RDrop`.
        """
        target = ops.convert_to_tensor(y_true)
        valid = None
        if fusion.dense:
            target = ops.cast(target, consistency_dtype())
        else:
            if len(target.shape) == len(logits[0].shape):
                target = ops.squeeze(target, axis=-1)
            target, valid = class_ids(target, fusion.ignore_class, None)
        tasks, self._values = fused_values(
            target,
            logits,
            fusion.smoothing(logits[0].shape[-1]),
            fusion.dense,
            stop_gradient,
        )
        if valid is not None:
            tasks = [ops.where(valid, task, 0.0) for task in tasks]
        return [
            reduce_values(
                task, reduction, sample_weight, common_mask([output], valid)
            )
            for task, output in zip(tasks, self.outputs)
        ]

    def reduce(
        self,
        divergence: Divergence,
        sample_weight: Any = None,
        valid: Any = None,
        name: str = "output",
        stop_gradient: bool = False,
    ) -> Any:
        """Returns the divergence, reduced as the task loss would be.

        Args:
            divergence: The divergence, with the task loss's reduction.
            sample_weight: The weights that the task loss gets.
            valid: Marks the positions that count, besides the masks.
            name: The output's name, for error messages.
            stop_gradient: As in `RDrop`.
        """
        check_comparable(self.outputs, name)
        divergence, outputs = _before_activation(divergence, self.outputs, name)
        _check_classes(divergence, outputs[0], name)
        values = self._values
        if values is None:
            values = divergence.unreduced(outputs, stop_gradient)
        mask = common_mask(self.outputs, valid)
        counted = ops.ones_like(values) if mask is None else mask
        self.count = ops.sum(ops.cast(counted, values.dtype))
        self.identical = _identical(values, outputs, self.count)
        self.improper = _improper(divergence, outputs[0])
        return reduce_values(values, divergence.reduction, sample_weight, mask)


def check_comparable(outputs: Sequence[Any], name: str) -> None:
    """Raises if outputs of several passes cannot be compared."""
    shapes = [tuple(output.shape) for output in outputs]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1 or any(
        len({size for size in sizes if size is not None}) > 1
        for sizes in zip(*shapes)
    ):
        raise ValueError(
            f"Expected every pass to give output '{name}' the same shape. "
            f"Received: {shapes}. R-Drop compares the passes item by item; a "
            "model whose output size depends on dropout cannot be trained "
            "with it."
        )
    dtype = keras.backend.standardize_dtype(outputs[0].dtype)
    if "float" not in dtype:
        raise ValueError(
            f"Expected output '{name}' to be floating point: logits, "
            "probabilities or values that the passes can agree on. Received: "
            f"dtype={dtype}. Return those from the model, or compile without "
            "a loss for this output."
        )


def _before_activation(
    divergence: Divergence, outputs: Sequence[Any], name: str
) -> tuple[Divergence, Sequence[Any]]:
    """Goes back to the logits that softmax or sigmoid outputs came from."""
    if not isinstance(divergence, DistributionDivergence):
        return divergence, outputs
    logits = [_keras.computed_logits(output) for output in outputs]
    if any(z is None for z in logits):
        return divergence, outputs
    if divergence.from_logits:
        raise ValueError(
            f"Expected output '{name}' to be logits, since the loss says "
            "`from_logits=True`. Received the result of a softmax or sigmoid. "
            "Remove that activation from the model, or compile the loss with "
            "`from_logits=False`."
        )
    config = {**divergence.get_config(), "from_logits": True}
    return type(divergence).from_config(config), logits


def _check_classes(divergence: Divergence, output: Any, name: str) -> None:
    if not isinstance(divergence, CategoricalConsistency):
        return
    if not output.shape or output.shape[divergence.axis] == 1:
        raise ValueError(
            f"Expected output '{name}' to hold two or more classes along "
            f"axis {divergence.axis}, since its loss is categorical. "
            f"Received: shape={tuple(output.shape)}. One class always has "
            "probability 1, so there is nothing to learn and nothing to "
            "compare. For one yes-or-no output use "
            "`keras.losses.BinaryCrossentropy`."
        )


def _identical(values: Any, outputs: Sequence[Any], count: Any) -> Any:
    # Zero divergence alone proves nothing: two saturated outputs have it too.
    # Comparing the first class as well costs next to nothing where comparing
    # everything would read every logit again.
    first = [o[..., :1] if len(o.shape) else o for o in outputs]
    same = ops.all(values == 0)
    for other in first[1:]:
        same = ops.logical_and(same, ops.all(first[0] == other))
    # An empty batch, or one that is all padding, says nothing about dropout.
    return ops.cast(ops.logical_and(same, count > 0), "float32")


def _improper(divergence: Divergence, output: Any) -> Any:
    if not isinstance(divergence, DistributionDivergence):
        return ops.zeros((), "float32")
    if divergence.from_logits:
        return ops.zeros((), "float32")
    # One example is enough to tell logits from probabilities.
    example = output[:1] if len(output.shape) else output
    outside = ops.logical_or(example < 0, example > 1.01)
    return ops.cast(ops.any(outside), "float32")
