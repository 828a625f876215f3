"""Metrics and plots of an image classifier's predictions."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.special
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reproduce.common.curves import COLORS
from reproduce.data.images import Dataset

RELIABILITY = "reliability.png"
PREDICTIONS = "predictions.png"
# The number of confidence bins.
BINS = 15
# The number of images to draw, and the number of columns.
SHOWN = 24
COLUMNS = 8
RIGHT, WRONG = "#2a7f3f", "#c0392b"

# Each arm with its probabilities of all test images.
Predicted = list[tuple[str, np.ndarray]]


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Returns class probabilities in float64."""
    return scipy.special.softmax(logits.astype("float64"), axis=-1)


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy, negative log-likelihood and calibration error."""
    # Not scikit-learn's log loss, which clips probabilities.
    log_likelihoods = scipy.special.log_softmax(
        logits.astype("float64"), axis=-1
    )
    of_labels = np.take_along_axis(log_likelihoods, labels[:, None], axis=-1)
    return {
        "accuracy": float(np.mean(np.argmax(logits, axis=-1) == labels)),
        "loss": float(-np.mean(of_labels)),
        "calibration_error": reliability(
            probabilities_of(logits), labels
        ).error,
    }


class Reliability(NamedTuple):
    """Predictions by confidence, in bins of equal width from 0 to 1.

    Each bin has its number of predictions, their mean confidence and the share
    of right ones; the means of an empty bin are 0.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap, by prediction."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.average(gaps, weights=self.counts))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> Reliability:
    """Sorts predictions into bins, which include their upper edge."""
    if len(labels) == 0 or len(probabilities) != len(labels):
        raise ValueError(
            "Expected one label for each row of probabilities, and at least "
            f"one. Received: {len(probabilities)} rows, {len(labels)} labels."
        )
    # scikit-learn's calibration_curve has the same bins, without counts.
    confidence = np.max(probabilities, axis=-1).astype("float64")
    right = np.argmax(probabilities, axis=-1) == labels
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of = np.digitize(confidence, inner_edges, right=True)
    counts, confidences, rights = (
        np.bincount(bin_of, weights=values, minlength=bins)
        for values in (None, confidence, right)
    )
    filled = np.maximum(counts, 1)
    return Reliability(counts, confidences / filled, rights / filled)


def draw(predicted: Predicted, data: Dataset, title: str, output: Path) -> None:
    """Draws reliability and predictions of one or several arms."""
    figure = _reliability_figure(predicted, data.test.labels)
    figure.suptitle(title)
    figure.savefig(output / RELIABILITY, dpi=120)
    ends = predicted if len(predicted) == 1 else [predicted[0], predicted[-1]]
    figure = _predictions_figure(ends, data)
    figure.suptitle(
        f"{title}: images that an arm gets wrong, then others; above each its "
        "class, below the predictions"
    )
    figure.savefig(output / PREDICTIONS, dpi=120)


def _reliability_figure(predicted: Predicted, labels: np.ndarray) -> Figure:
    """Draws accuracy and share of the predictions by confidence."""
    figure = _figure(max(4.2 * len(predicted), 7), 5.5)
    grid = figure.subplots(
        2, len(predicted), squeeze=False, sharex=True, height_ratios=(3, 1)
    )
    centres = (np.arange(BINS) + 0.5) / BINS
    for (arm, probabilities), (above, below) in zip(predicted, grid.T):
        found = reliability(probabilities, labels)
        filled = found.counts > 0
        bars = {"width": 0.9 / BINS, "color": COLORS[arm], "alpha": 0.75}
        above.bar(centres, found.accuracy, label="accuracy", **bars)
        below.bar(centres, found.counts / found.counts.sum(), **bars)
        above.plot([0, 1], [0, 1], "k--", linewidth=1, label="calibrated")
        above.plot(
            found.confidence[filled],
            found.accuracy[filled],
            "ko",
            markersize=3,
            label="mean of a bin",
        )
        above.set(
            title=f"{arm}: calibration error {100 * found.error:.1f} %",
            ylabel="accuracy",
            ylim=(0, 1.02),
        )
        below.set(
            xlabel="confidence, the probability of the prediction",
            ylabel="share",
            xlim=(0, 1),
            ylim=(0, 1),
        )
        above.grid(alpha=0.3)
        below.grid(alpha=0.3)
    grid[0, 0].legend(loc="upper left")
    return figure


def _predictions_figure(predicted: Predicted, data: Dataset) -> Figure:
    """Draws test images, each with the predictions of every arm."""
    chosen = chosen_images(predicted, data.test.labels)
    rows = -(-len(chosen) // COLUMNS)
    height = 1.5 + 0.22 * len(predicted)
    figure = _figure(1.55 * COLUMNS, rows * height + 0.9)
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    names = [n if len(n) <= 14 else n[:13] + "…" for n in data.classes]
    images = data.test.images[chosen]
    for axes, index, image in zip(grid.flat, chosen, images):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        label = data.test.labels[index]
        axes.set_title(names[label], fontsize=9)
        for line, (arm, probabilities) in enumerate(predicted):
            guess = int(np.argmax(probabilities[index]))
            share = 100 * probabilities[index, guess]
            axes.text(
                0.5,
                -0.04 - 0.17 * line,
                f"{arm}: {names[guess]} ({share:.0f} %)",
                transform=axes.transAxes,
                fontsize=8,
                horizontalalignment="center",
                verticalalignment="top",
                color=RIGHT if guess == label else WRONG,
            )
    return figure


def chosen_images(predicted: Predicted, labels: np.ndarray) -> np.ndarray:
    """Returns the indices of up to 24 test images to draw.

    Up to half of them are the first images that an arm gets wrong, the others
    the first ones that all arms get right.
    """
    right = np.ones(len(labels), bool)
    for _, probabilities in predicted:
        right &= np.argmax(probabilities, axis=-1) == labels
    wrong_ones, right_ones = np.flatnonzero(~right), np.flatnonzero(right)
    count = min(len(wrong_ones), max(SHOWN // 2, SHOWN - len(right_ones)))
    return np.concatenate([wrong_ones[:count], right_ones[: SHOWN - count]])


def _figure(width: float, height: float) -> Figure:
    # Unlike pyplot, a Figure needs no display.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
