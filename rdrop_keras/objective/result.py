"""The loss of one batch and the parts it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


class Consistency(NamedTuple):
    """The divergence between passes.

    Attributes:
        value: The divergence, a scalar.
        weighted: The same times alpha, each output times its own.
        by_output: The divergence of each output, where there are several,
            without loss weights.
        compared: What was compared, a `Comparison` for each output.
    """

    value: Any
    weighted: Any
    by_output: dict[str, Any]
    compared: tuple[Any, ...] = ()


class Tokens(NamedTuple):
    """What the first pass makes of the tokens of a batch.

    Attributes:
        correct: For how many the label is the most probable.
        nll: Their crossentropy, not smoothed, summed.
        count: How many there are.
    """

    correct: Any
    nll: Any
    count: Any


class Objective(NamedTuple):
    """The loss of one batch and its parts.

    Attributes:
        loss: What is minimised, `task_loss + consistency.weighted / m`.
        task_loss: Mean over the passes of what `compute_loss` returned.
        consistency: The `Consistency` of the passes, unweighted.
        active: 1.0, or 0.0 where there was one pass and no consistency.
        tokens: What was counted on the way, or None.
    """

    loss: Any
    task_loss: Any
    consistency: Consistency
    active: Any
    tokens: Tokens | None = None

    def parts(self) -> dict[str, Any]:
        """Returns task loss and consistency by the names of the logs."""
        return {
            "task_loss": self.task_loss,
            "consistency_loss": self.consistency.value,
            **{
                f"{name}_consistency_loss": value
                for name, value in self.consistency.by_output.items()
            },
        }


def combine(task_loss: Any, consistency: Consistency, passes: int) -> Objective:
    """Returns the loss of several passes and its parts.

    Args:
        task_loss: The mean of the task losses.
        consistency: Their divergence.
        passes: How many there were.
    """
    loss = task_loss + consistency.weighted / passes
    return Objective(loss, task_loss, consistency, ops.ones((), "float32"))


def mean_of(losses: Sequence[Any]) -> Any:
    """Returns the mean of scalars in the dtype of the consistency."""
    dtype = consistency_dtype()
    return sum(ops.cast(loss, dtype) for loss in losses) / len(losses)


def plain_objective(task_loss: Any, outputs: Sequence[str]) -> Objective:
    """Returns the objective of a step that has one pass.

    Args:
        task_loss: What `compute_loss` returned.
        outputs: The names of `Consistency.by_output`.
    """
    task_loss = ops.cast(task_loss, consistency_dtype())
    nothing = ops.zeros_like(task_loss)
    nothing = Consistency(nothing, nothing, {name: nothing for name in outputs})
    return Objective(task_loss, task_loss, nothing, ops.zeros((), "float32"))
