"""GLUE's metrics, from scikit-learn and SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics


def _correlation(compute: Callable[[Any, Any], Any]) -> Callable:
    """Returns a correlation that is 0 where it is undefined.

    It is undefined for a model with the same output for every example, which
    has learned nothing.
    """

    def correlation(labels: np.ndarray, predictions: np.ndarray) -> float:
        if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
            return 0.0
        with warnings.catch_warnings():
            # The correlation of nearly constant predictions is near 0 anyway.
            warnings.simplefilter("ignore", scipy.stats.DegenerateDataWarning)
            return float(np.nan_to_num(compute(labels, predictions)))

    return correlation


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": sklearn.metrics.accuracy_score,
    # The F1 score of class 1, as GLUE defines it.
    "f1": lambda labels, predictions: sklearn.metrics.f1_score(
        labels, predictions, zero_division=0.0
    ),
    "matthews": _correlation(sklearn.metrics.matthews_corrcoef),
    "pearson": _correlation(lambda *x: scipy.stats.pearsonr(*x).statistic),
    "spearman": _correlation(lambda *x: scipy.stats.spearmanr(*x).statistic),
}


def evaluate(
    metrics: Sequence[str], outputs: np.ndarray, targets: np.ndarray
) -> dict[str, float]:
    """Returns metrics of `METRICS` by name, as fractions.

    The outputs are logits of shape `(examples, classes)` and the targets class
    indices, or both are scores of shape `(examples, 1)`.
    """
    if len(outputs) != len(targets) or len(targets) == 0:
        raise ValueError(
            "Expected a prediction for every label, and one or more. "
            f"Received: {len(outputs)} predictions, {len(targets)} labels"
        )
    if targets.ndim == 2:
        predictions, labels = outputs[:, 0], targets[:, 0]
    else:
        predictions, labels = outputs.argmax(axis=-1), targets
    if not np.isfinite(predictions).all():
        raise ValueError("Expected finite scores. Received: NaN or inf.")
    return {name: float(METRICS[name](labels, predictions)) for name in metrics}
