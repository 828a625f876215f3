"""Methods for the logs of a model."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.training import trainer
from rdrop_keras.training.metrics import Trackers


class OwnLogs:
    """Methods of `RDropMixin` that report the metrics of training."""

    _rdrop_trackers: Trackers | None = None

    def get_metrics_result(self) -> dict[str, Any]:
        if _keras.has_built_metrics(self):
            return super().get_metrics_result()
        # With `vocabulary_chunk` training does not update compiled metrics.
        return _keras.logs_of_training(self)

    @property
    def metrics_variables(self) -> list[keras.Variable]:
        # JAX passes them through the training step.
        trackers = self._rdrop_trackers
        own = [] if trackers is None else trackers.variables
        return [*super().metrics_variables, *own]

    def _get_metrics_result_or_logs(self, logs: Any) -> Any:
        # Keras would return the logs of the last step, since it finds keys that
        # are not its own. `evaluate` calls this too, without such keys.
        trackers = self._rdrop_trackers
        if trackers is not None and trackers.are_in(logs):
            return trainer().after_epoch(self, trackers, logs)
        return super()._get_metrics_result_or_logs(logs)
