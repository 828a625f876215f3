"""Metrics and plots of an image classifier's predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.special
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reproduce.common.curves import COLORS
from reproduce.data.images import Dataset

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
    """Returns accuracy, negative log-likelihood and calibration error.

    Args:
        logits: Logits of shape `(examples, classes)`.
        labels: The true class indices.
    """
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


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence, in bins of equal width from 0 to 1.

    A bin includes its upper edge. The means of an empty bin are 0.

    Attributes:
        counts: The number of predictions.
        confidence: The mean probability of the predicted class.
        accuracy: The share of right predictions.
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
    """Sorts predictions into bins by their confidence.

    Args:
        probabilities: Probabilities of shape `(examples, classes)`.
        labels: The true class indices.
        bins: The number of bins.
    """
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


def plot_reliability(
    predicted: Predicted, labels: np.ndarray, title: str, path: Path
) -> None:
    """Draws accuracy and share of the predictions by confidence.

    Args:
        predicted: For each arm the probabilities, one panel each.
        labels: The true class indices.
        title: The title.
        path: The PNG file to write.
    """
    size = max(4.2 * len(predicted), 7), 5.5
    figure = _figure(size, title)
    grid = figure.subplots(
        2, len(predicted), squeeze=False, sharex=True, height_ratios=(3, 1)
    )
    centres = (np.arange(BINS) + 0.5) / BINS
    for (arm, probabilities), (above, below) in zip(predicted, grid.T):
        found = reliability(probabilities, labels)
        filled = found.counts > 0
        for axes, heights in (
            (above, found.accuracy),
            (below, found.counts / found.counts.sum()),
        ):
            axes.bar(
                centres,
                heights,
                width=0.9 / BINS,
                color=COLORS[arm],
                alpha=0.75,
                label="accuracy",
            )
            axes.grid(alpha=0.3)
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
    grid[0, 0].legend(loc="upper left")
    figure.savefig(path, dpi=120)


def plot_predictions(
    predicted: Predicted, dataset: Dataset, title: str, path: Path
) -> None:
    """Draws test images, each with the predictions of every arm.

    Args:
        predicted: For each arm the probabilities of all test images.
        dataset: The test images and the names of the classes.
        title: The title.
        path: The PNG file to write.
    """
    chosen = chosen_images(predicted, dataset.test.labels)
    rows = -(-len(chosen) // COLUMNS)
    height = 1.5 + 0.22 * len(predicted)
    figure = _figure(
        (1.55 * COLUMNS, rows * height + 0.9),
        f"{title}: images that an arm gets wrong, then others; above each its "
        "class, below the predictions",
    )
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    names = [n if len(n) <= 14 else n[:13] + "…" for n in dataset.classes]
    images = dataset.test.images[chosen]
    for axes, index, image in zip(grid.flat, chosen, images):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        label = dataset.test.labels[index]
        axes.set_title(names[label], fontsize=9)
        for line, (arm, probabilities) in enumerate(predicted):
            guess = int(np.argmax(probabilities[index]))
            axes.text(
                0.5,
                -0.04 - 0.17 * line,
                f"{arm}: {names[guess]} "
                f"({100 * probabilities[index, guess]:.0f} %)",
                transform=axes.transAxes,
                fontsize=8,
                horizontalalignment="center",
                verticalalignment="top",
                color=RIGHT if guess == label else WRONG,
            )
    figure.savefig(path, dpi=120)


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


def _figure(size: tuple[float, float], title: str) -> Figure:
    # Figure, not pyplot, which needs a display.
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure
