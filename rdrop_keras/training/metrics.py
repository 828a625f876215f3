"""Running means of the parts of the R-Drop loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

from rdrop_keras.objective.result import Objective


class Trackers:
    """What R-Drop training reports beside Keras's own metrics.

    Kept out of `model.metrics`, because Keras reports those in `evaluate` and
    validation too, where there is one pass and nothing to report.
    """

    def __init__(self):
        # Its own, since a model with its own `metrics` may not reset Keras's.
        self.loss = keras.metrics.Mean(name="loss")
        self.task_loss = keras.metrics.Mean(name="task_loss")
        self.consistency_loss = keras.metrics.Mean(name="consistency_loss")
        self.token_accuracy = keras.metrics.Mean(name="token_accuracy")
        self._nll = keras.metrics.Mean(name="token_nll")
        self._by_output: dict[str, keras.metrics.Metric] = {}
        self.reported: set[str] = set()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All the metrics."""
        return [
            self.loss,
            self.task_loss,
            self.consistency_loss,
            self.token_accuracy,
            self._nll,
            *self._by_output.values(),
        ]

    def prepare(self, outputs: Iterable[str]) -> None:
        """Makes a metric for the consistency of each output.

        Args:
            outputs: The names of `Consistency.by_output`.
        """
        for name in outputs:
            if name not in self._by_output:
                self._by_output[name] = keras.metrics.Mean(
                    name=f"{name}_consistency_loss"
                )

    def update(self, objective: Objective, batch_size: Any) -> None:
        """Adds one step.

        Args:
            objective: The step's `Objective`, not divided by replicas.
            batch_size: The number of rows, by which the step counts.
        """
        rows = keras.ops.cast(batch_size, "float32")
        consistency = objective.consistency
        self.prepare(consistency.by_output)
        self.loss.update_state(objective.loss, sample_weight=rows)
        self.task_loss.update_state(objective.task_loss, sample_weight=rows)
        active = rows * objective.active
        self.consistency_loss.update_state(
            consistency.value, sample_weight=active
        )
        for name, value in consistency.by_output.items():
            self._by_output[name].update_state(value, sample_weight=active)
        if objective.tokens is not None:
            correct, nll, count = objective.tokens
            for metric, total in (
                (self.token_accuracy, correct),
                (self._nll, nll),
            ):
                mean = keras.ops.divide_no_nan(total, count)
                metric.update_state(mean, sample_weight=count)

    def result(
        self, logs: dict[str, Any], alpha: Any, tokens: bool = False
    ) -> dict[str, Any]:
        """Returns the logs of a step.

        A name that the model's own logs have already, such as that of an
        output called `task`, gets `rdrop_` before it.

        Args:
            logs: The model's own.
            alpha: What `RDrop.scheduled_alpha` returned.
            tokens: Whether tokens were counted.
        """
        shown = [
            self.task_loss,
            self.consistency_loss,
            *self._by_output.values(),
        ]
        if tokens:
            shown.append(self.token_accuracy)
        found = {metric.name: metric.result() for metric in shown}
        if tokens:
            found["perplexity"] = keras.ops.exp(self._nll.result())
        found.update(alpha)
        found = {
            f"rdrop_{name}" if name in logs else name: value
            for name, value in found.items()
        }
        self.reported = set(found)
        return {**logs, "loss": self.loss.result(), **found}

    def reset(self) -> None:
        """Starts a new epoch."""
        for metric in self.metrics:
            metric.reset_state()
