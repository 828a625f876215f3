"""Running means of the parts of the R-Drop loss."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.parts import Objective


class Trackers:
    """What R-Drop training reports beside Keras's own `loss`.

    Kept out of `model.metrics`, because Keras reports those in `evaluate` and
    validation too, where there is one pass and nothing to report.
    """

    def __init__(self):
        self.task_loss = keras.metrics.Mean(name="task_loss")
        self.consistency_loss = keras.metrics.Mean(name="consistency_loss")
        self.token_accuracy = keras.metrics.Mean(name="token_accuracy")
        self._nll = keras.metrics.Mean(name="token_nll")
        self._identical = keras.metrics.Mean(name="identical_passes")
        self._improper = keras.metrics.Mean(name="improper_probabilities")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All the metrics, those for checks included."""
        return [
            self.task_loss,
            self.consistency_loss,
            self.token_accuracy,
            self._nll,
            self._identical,
            self._improper,
        ]

    def update(self, objective: Objective, batch_size: Any) -> None:
        """Adds one step.

        Args:
            objective: The step's `Objective`, not divided by replicas.
            batch_size: The number of rows, by which the step counts.
        """
        rows = keras.ops.cast(batch_size, "float32")
        consistency, active = objective.consistency, objective.active
        self.task_loss.update_state(objective.task_loss, sample_weight=rows)
        self.consistency_loss.update_state(
            consistency.value, sample_weight=rows * active
        )
        self._identical.update_state(consistency.identical, active)
        self._improper.update_state(consistency.improper, active)
        if objective.tokens is not None:
            correct, nll, count = objective.tokens
            for metric, total in (
                (self.token_accuracy, correct),
                (self._nll, nll),
            ):
                mean = keras.ops.divide_no_nan(total, count)
                metric.update_state(mean, sample_weight=count)

    def result(self, tokens: bool = False) -> dict[str, Any]:
        """Returns the logs.

        Args:
            tokens: Whether tokens were counted.
        """
        shown = [self.task_loss, self.consistency_loss]
        if tokens:
            shown.append(self.token_accuracy)
        logs = {metric.name: metric.result() for metric in shown}
        if tokens:
            logs["perplexity"] = keras.ops.exp(self._nll.result())
        return logs

    def reset(self) -> None:
        """Starts a new epoch."""
        for metric in self.metrics:
            metric.reset_state()

    def all_identical(self) -> bool:
        """Whether the passes were identical in every step since the reset."""
        return float(self._identical.result()) == 1.0

    def any_improper(self) -> bool:
        """Whether any step read as probabilities what is none."""
        return float(self._improper.result()) > 0.0
