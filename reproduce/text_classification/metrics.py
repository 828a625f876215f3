"""GLUE's metrics, from scikit-learn and SciPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
import sklearn.metrics

from reproduce.text_classification.glue_tasks import GLUE_TASKS
from reproduce.text_classification.glue_tasks import GlueTask


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The share of predictions that are right."""
    return float(sklearn.metrics.accuracy_score(labels, predictions))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1; 0 if that is neither predicted nor there."""
    return float(
        sklearn.metrics.f1_score(
            labels, predictions, pos_label=1, zero_division=0.0
        )
    )


def matthews(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews's correlation; 0 if predictions or labels are all the same."""
    # scikit-learn says 0 too, but warns where there is one class in both.
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    return float(sklearn.metrics.matthews_corrcoef(labels, predictions))


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson's correlation; 0 if predictions or labels are all the same.

    There it is not defined. A model that says the same of every pair has
    learned nothing, and 0 is what such a model scores, without a warning.
    """
    return _correlation(scipy.stats.pearsonr, predictions, labels)


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where `pearson` is 0 by definition."""
    return _correlation(scipy.stats.spearmanr, predictions, labels)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


def evaluate_glue(
    task: str | GlueTask,
    predictions: Sequence[Any] | np.ndarray,
    labels: Sequence[Any] | np.ndarray,
) -> dict[str, float]:
    """Scores predictions with the metrics of a task.

    Args:
        task: The task or its name.
        predictions: Class names or class indices; for STS-B scores, which may
            lie outside of the range of the labels.
        labels: The right ones, as many, in the same order.

    Returns:
        By name, every metric of the task, from -1 or 0 to 1. The paper
        reports the one that `task.headline` names, times 100.
    """
    task = GLUE_TASKS[task] if isinstance(task, str) else task
    predictions, labels = _array(task, predictions), _array(task, labels)
    if len(predictions) != len(labels) or len(labels) == 0:
        raise ValueError(
            "Expected a prediction for every label, and one or more. "
            f"Received: {len(predictions)} predictions, {len(labels)} labels"
        )
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def _array(task: GlueTask, values: Sequence[Any] | np.ndarray) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(
            "Expected one prediction or label for each example. Received: "
            f"shape {array.shape}"
        )
    if task.is_regression:
        array = array.astype("float64")
        wrong = array[~np.isfinite(array)]
        if len(wrong):
            raise ValueError(f"Expected finite scores. Received: {wrong}")
        return array
    if array.dtype.kind == "U":
        index_of = {name: index for index, name in enumerate(task.classes)}
        unknown = set(array.tolist()) - index_of.keys()
        if unknown:
            raise ValueError(
                f"Expected classes out of {', '.join(task.classes)}. "
                f"Received: {', '.join(sorted(unknown))}"
            )
        return np.array([index_of[name] for name in array.tolist()], "int64")
    count = len(task.classes)
    whole = array.dtype.kind in "iu"
    if len(array) and not (whole and 0 <= array.min() <= array.max() < count):
        raise ValueError(
            f"Expected class names or indices from 0 to {count - 1}. "
            f"Received: {array}"
        )
    return array


def _correlation(
    compute: Callable[..., Any], predictions: np.ndarray, labels: np.ndarray
) -> float:
    if _is_constant(predictions) or _is_constant(labels):
        return 0.0
    with warnings.catch_warnings():
        # Predictions that differ in their last bits only are no reason to
        # stop: what comes out is inaccurate, and near 0 all the same.
        warnings.simplefilter("ignore", scipy.stats.NearConstantInputWarning)
        warnings.simplefilter("ignore", scipy.stats.ConstantInputWarning)
        value = float(compute(predictions, labels).statistic)
    return value if np.isfinite(value) else 0.0


def _is_constant(values: np.ndarray) -> bool:
    return bool(values.min() == values.max())
