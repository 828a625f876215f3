"""Running means of the loss and its parts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.objective.result import Objective


class Trackers:
    """The metrics that R-Drop training reports in addition to Keras's own.

    They are kept out of `model.metrics`, because Keras reports those in
    `evaluate` and validation too, where there is only one pass.
    """

    def __init__(self):
        # Not Keras's tracker of the loss, which a model that overrides
        # `metrics` may not reset.
        self.loss = keras.metrics.Mean(name="loss")
        self.task_loss = keras.metrics.Mean(name="task_loss")
        self.consistency_loss = keras.metrics.Mean(name="consistency_loss")
        self.token_accuracy = keras.metrics.Mean(name="token_accuracy")
        self._nll = keras.metrics.Mean(name="token_nll")
        self._by_output: dict[str, keras.metrics.Metric] = {}
        self.reported: set[str] = set()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """All metrics, reported or not."""
        return [
            self.loss,
            self.task_loss,
            self.consistency_loss,
            self.token_accuracy,
            self._nll,
            *self._by_output.values(),
        ]

    @property
    def variables(self) -> list[keras.Variable]:
        """The variables of all metrics."""
        return [v for metric in self.metrics for v in metric.variables]

    def prepare(self, outputs: Iterable[str]) -> None:
        """Creates a metric for the consistency of each output.

        Args:
            outputs: The names of `Consistency.by_output`.
        """
        for name in outputs:
            if name not in self._by_output:
                self._by_output[name] = keras.metrics.Mean(
                    name=f"{name}_consistency_loss"
                )

    def update(self, objective: Objective, batch_size: Any) -> None:
        """Updates the metrics with one step.

        Args:
            objective: The step's `Objective`, not divided by replicas.
            batch_size: The number of rows, which is the weight of the step.
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

        A name that is already in the model's own logs, such as `task_loss` of
        an output called `task`, gets the prefix `rdrop_`.

        Args:
            logs: The model's own logs.
            alpha: The result of `RDrop.scheduled_alpha`.
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

    def are_in(self, logs: dict[str, Any]) -> bool:
        """Returns whether logs are those of training with R-Drop."""
        return bool(self.reported) and self.reported <= set(logs)

    def reset(self) -> None:
        """Starts a new epoch."""
        for metric in self.metrics:
            metric.reset_state()


def report(
    model: Any,
    trackers: Trackers,
    objective: Objective,
    y_pred: Any,
    batch: tuple[Any, Any, Any],
    rows: Any,
    alpha: dict[str, Any],
    aggregated: Callable[..., AbstractContextManager] | None = None,
) -> dict[str, Any]:
    """Updates all metrics with one step and returns its logs.

    As in `keras.Model.train_step`, the loss is weighted by the batch size.

    Args:
        model: A compiled `RDropMixin` model.
        trackers: Its trackers.
        objective: The step's `Objective`, not divided by replicas.
        y_pred: The outputs of the first pass.
        batch: Inputs, targets and sample weights.
        rows: The number of rows of the batch.
        alpha: The result of `RDrop.scheduled_alpha` before the step.
        aggregated: A function of the model and variables of metrics. It
            returns a context in which these hold the totals over all
            processes. By default they hold those of this process.
    """
    aggregated = aggregated or _of_this_process
    loss_tracker = _keras.loss_tracker(model)
    if loss_tracker is not None:
        loss_tracker.update_state(objective.loss, sample_weight=rows)
    trackers.update(objective, rows)
    if model.rdrop.vocabulary_chunk is None:
        x, y, sample_weight = batch
        weights = _keras.weights_to_spend(sample_weight)
        logs = model.compute_metrics(x, y, y_pred, sample_weight=weights)
        with aggregated(model, trackers.variables):
            return trackers.result(logs, alpha)
    with aggregated(model, model.metrics_variables):
        return trackers.result(own_logs(model), alpha, tokens=True)


def _of_this_process(model: Any, variables: Any) -> AbstractContextManager:
    return contextlib.nullcontext()


def own_logs(model: Any) -> dict[str, Any]:
    """Returns the logs of the metrics that training updates, but trackers."""
    if model.rdrop.vocabulary_chunk is None:
        return model.get_metrics_result()
    # The compiled metrics need logits, which do not exist.
    return _keras.logs_of_training(model)
