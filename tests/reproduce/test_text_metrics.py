"""GLUE's metrics against formulas written out."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from reproduce.data.glue_tasks import GLUE_TASKS
from reproduce.glue_metrics import METRICS
from reproduce.glue_metrics import evaluate


def evaluate_glue(name, predictions, labels):
    """Scores predictions as the outputs of a model that makes them."""
    task = GLUE_TASKS[name]
    if task.is_regression:
        outputs, targets = (
            np.array(x, "float64")[:, None] for x in (predictions, labels)
        )
        return evaluate(task.metrics, outputs, targets)
    outputs = np.eye(len(task.classes))[np.array(predictions, int)]
    return evaluate(task.metrics, outputs, np.array(labels))


def _counts(predictions, labels):
    return [
        float(np.sum((predictions == ours) & (labels == theirs)))
        for ours, theirs in ((1, 1), (0, 0), (1, 0), (0, 1))
    ]


def _f1(predictions, labels):
    right, _, wrong, missed = _counts(predictions, labels)
    return 2 * right / (2 * right + wrong + missed)


def _matthews(predictions, labels):
    tp, tn, fp, fn = _counts(predictions, labels)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return (tp * tn - fp * fn) / np.sqrt(product)


def _pearson(predictions, labels):
    x, y = predictions - predictions.mean(), labels - labels.mean()
    return np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y))


def _ranks(values):
    # Equal values share the mean of their ranks.
    below = (values[None, :] < values[:, None]).sum(axis=1)
    same = (values[None, :] == values[:, None]).sum(axis=1)
    return below + (same + 1) / 2


FORMULAS = {
    "accuracy": lambda ours, theirs: np.mean(ours == theirs),
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": lambda ours, theirs: _pearson(_ranks(ours), _ranks(theirs)),
}
LIBRARIES = {
    "accuracy": lambda x, y: sklearn.metrics.accuracy_score(y, x),
    "f1": lambda x, y: sklearn.metrics.f1_score(y, x),
    "matthews": lambda x, y: sklearn.metrics.matthews_corrcoef(y, x),
    "pearson": lambda x, y: scipy.stats.pearsonr(x, y).statistic,
    "spearman": lambda x, y: scipy.stats.spearmanr(x, y).statistic,
}


@pytest.mark.parametrize("name", GLUE_TASKS)
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_what_they_are_called(name, seed):
    task, generator = GLUE_TASKS[name], np.random.default_rng(seed)
    if task.is_regression:
        # Halves, so that there are ties.
        labels = generator.integers(0, 11, 60) / 2
        predictions = labels + generator.normal(0, 2, 60).round(1)
    else:
        count = len(task.classes)
        # Not balanced: F1 of one class is not that of the other.
        labels = np.minimum(generator.integers(0, 2 * count, 60), count - 1)
        guesses = generator.integers(0, count, 60)
        predictions = np.where(generator.random(60) < 0.5, labels, guesses)
    scores = evaluate_glue(name, predictions, labels)
    assert list(scores) == list(task.metrics)
    for metric, score in scores.items():
        assert type(score) is float
        for independent in (FORMULAS, LIBRARIES):
            expected = independent[metric](predictions, labels)
            np.testing.assert_allclose(score, expected, rtol=1e-10)


def test_all_metrics_are_used():
    used = {metric for task in GLUE_TASKS.values() for metric in task.metrics}
    assert used == METRICS.keys() == FORMULAS.keys()


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "expected"),
    [
        ("cola", [1, 1, 1, 1], [0, 1, 1, 0], {"matthews": 0.0}),
        ("cola", [0, 1, 1, 0], [1, 1, 1, 1], {"matthews": 0.0}),
        ("cola", [1, 1], [1, 1], {"matthews": 0.0}),
        ("cola", [0, 1], [1, 0], {"matthews": -1.0}),
        ("mrpc", [0, 0, 0], [0, 1, 0], {"accuracy": 2 / 3, "f1": 0.0}),
        ("mrpc", [0, 0], [0, 0], {"accuracy": 1.0, "f1": 0.0}),
        ("mrpc", [1, 1], [1, 1], {"accuracy": 1.0, "f1": 1.0}),
        ("stsb", [2.0, 2.0], [0.0, 5.0], {"pearson": 0.0, "spearman": 0.0}),
        ("stsb", [1.0, 2.0], [5.0, 5.0], {"pearson": 0.0, "spearman": 0.0}),
        ("stsb", [3.0], [3.0], {"pearson": 0.0, "spearman": 0.0}),
        ("stsb", [7.0, -1.0], [5.0, 0.0], {"pearson": 1.0, "spearman": 1.0}),
    ],
)
def test_degenerate_predictions_score_without_warnings(
    task, predictions, labels, expected
):
    assert evaluate_glue(task, predictions, labels) == pytest.approx(expected)


def test_nearly_constant_predictions_score_without_warnings():
    predictions = np.full(8, 3.0)
    predictions[3] = np.nextafter(3.0, 4.0)
    scores = evaluate_glue("stsb", predictions, np.arange(8) / 2)
    assert all(-1 <= score <= 1 for score in scores.values())


@pytest.mark.parametrize(
    ("task", "predictions", "labels", "message"),
    [
        ("rte", [0, 1], [0], "2 predictions, 1 labels"),
        ("rte", [], [], "0 predictions, 0 labels"),
        ("stsb", [1.0, float("nan")], [1, 2], "finite scores"),
    ],
)
def test_what_cannot_be_scored_is_refused(task, predictions, labels, message):
    with pytest.raises(ValueError, match=message):
        evaluate_glue(task, predictions, labels)
