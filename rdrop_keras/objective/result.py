"""The loss of one batch and its parts."""

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
        weighted: The divergence times alpha; each output has its own alpha.
        by_output: The divergence of each output without loss weights, for
            models with several outputs.
        compared: A `Comparison` for each tensor that was compared.
    """

    value: Any
    weighted: Any
    by_output: dict[str, Any]
    compared: tuple[Any, ...] = ()


class Tokens(NamedTuple):
    """Statistics of the tokens of a batch in the first pass.

    Attributes:
        correct: The number of tokens whose label is the most probable class.
        nll: The sum of their crossentropies without label smoothing.
        count: The number of tokens.
    """

    correct: Any
    nll: Any
    count: Any


class Objective(NamedTuple):
    """The loss of one batch and its parts.

    Attributes:
        loss: The loss to minimize, `task_loss + consistency.weighted / m`.
        task_loss: The mean of `compute_loss` over the passes.
        consistency: The `Consistency` of the passes.
        active: 1.0, or 0.0 for a step with one pass and no consistency.
        tokens: The `Tokens`, or None if they were not counted.
    """

    loss: Any
    task_loss: Any
    consistency: Consistency
    active: Any
    tokens: Tokens | None = None

    def parts(self) -> dict[str, Any]:
        """Returns task loss and consistency under their names in the logs."""
        return {
            "task_loss": self.task_loss,
            "consistency_loss": self.consistency.value,
            **{
                f"{name}_consistency_loss": value
                for name, value in self.consistency.by_output.items()
            },
        }


def combine(task_loss: Any, consistency: Consistency, passes: int) -> Objective:
    """Returns the objective of several passes.

    Args:
        task_loss: The mean of the task losses.
        consistency: The `Consistency` of the passes.
        passes: The number of passes.
    """
    loss = task_loss + consistency.weighted / passes
    return Objective(loss, task_loss, consistency, ops.ones((), "float32"))


def mean_of(losses: Sequence[Any]) -> Any:
    """Returns the mean of scalars in the dtype of the consistency."""
    dtype = consistency_dtype()
    return sum(ops.cast(loss, dtype) for loss in losses) / len(losses)


def plain_objective(task_loss: Any, outputs: Sequence[str]) -> Objective:
    """Returns the objective of a step with one pass.

    Args:
        task_loss: The result of `compute_loss`.
        outputs: The names of `Consistency.by_output`.
    """
    task_loss = ops.cast(task_loss, consistency_dtype())
    nothing = ops.zeros_like(task_loss)
    nothing = Consistency(nothing, nothing, {name: nothing for name in outputs})
    return Objective(task_loss, task_loss, nothing, ops.zeros((), "float32"))
