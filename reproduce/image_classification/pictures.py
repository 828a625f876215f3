"""Pictures of predictions, and of how far their confidence can be trusted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from reproduce.common.curves import COLORS
from reproduce.image_classification.calibration import BINS
from reproduce.image_classification.calibration import reliability
from reproduce.image_classification.data import Dataset

# How many images to show, and how many of them in a row.
SHOWN = 24
COLUMNS = 8
RIGHT, WRONG = "#2a7f3f", "#c0392b"

# For each arm the probabilities of all test images.
Predicted = list[tuple[str, np.ndarray]]


def plot_reliability(
    predicted: Predicted, labels: np.ndarray, title: str, path: Path
) -> None:
    """Draws accuracy by confidence, and how many predictions are how sure.

    Args:
        predicted: For each arm the probabilities, one panel each.
        labels: The right class indices.
        title: What was trained.
        path: The picture to write, a PNG.
    """
    figure = Figure(
        figsize=(max(4.2 * len(predicted), 7), 5.5), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    grid = figure.subplots(
        2, len(predicted), squeeze=False, sharex=True, height_ratios=(3, 1)
    )
    for (arm, probabilities), (above, below) in zip(predicted, grid.T):
        found = reliability(probabilities, labels)
        centres = (np.arange(BINS) + 0.5) / BINS
        filled = found.counts > 0
        for axes, heights in (
            (above, np.where(filled, found.accuracy, 0)),
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
        above.set_title(f"{arm}: calibration error {100 * found.error:.1f} %")
        above.set_ylim(0, 1.02)
        below.set_xlim(0, 1)
        below.set_ylim(0, 1)
        below.set_xlabel("confidence, the probability of the prediction")
        above.set_ylabel("accuracy")
        below.set_ylabel("share")
    grid[0, 0].legend(loc="upper left")
    figure.savefig(path, dpi=120)


def plot_predictions(
    predicted: Predicted, dataset: Dataset, title: str, path: Path
) -> None:
    """Draws test images, each with what every arm says of it.

    Args:
        predicted: For each arm the probabilities of all test images.
        dataset: The test images and the names of the classes.
        title: What was trained.
        path: The picture to write, a PNG.
    """
    chosen = chosen_images(predicted, dataset.test.labels)
    rows = -(-len(chosen) // COLUMNS)
    height = 1.5 + 0.22 * len(predicted)
    figure = Figure(
        figsize=(1.55 * COLUMNS, rows * height + 0.9), layout="constrained"
    )
    FigureCanvasAgg(figure)
    figure.suptitle(
        f"{title}: images that an arm gets wrong, then others; above each its "
        "class, below the predictions"
    )
    images = dataset.test.images[chosen]
    grid = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, index, image in zip(grid.flat, chosen, images):
        _show(axes, image)
        label = dataset.test.labels[index]
        axes.set_title(_short(dataset.classes[label]), fontsize=9)
        for line, (arm, probabilities) in enumerate(predicted):
            guess = int(np.argmax(probabilities[index]))
            axes.text(
                0.5,
                -0.04 - 0.17 * line,
                f"{arm}: {_short(dataset.classes[guess])} "
                f"({100 * probabilities[index, guess]:.0f} %)",
                transform=axes.transAxes,
                fontsize=8,
                horizontalalignment="center",
                verticalalignment="top",
                color=RIGHT if guess == label else WRONG,
            )
    figure.savefig(path, dpi=120)


def chosen_images(predicted: Predicted, labels: np.ndarray) -> np.ndarray:
    """Returns which test images to show: up to 24.

    As many as half of them are images of which an arm is wrong, the others
    images of which all are right, both the first ones of the test part.
    """
    right = np.ones(len(labels), bool)
    for _, probabilities in predicted:
        right &= np.argmax(probabilities, axis=-1) == labels
    wrong_ones = np.flatnonzero(~right)
    right_ones = np.flatnonzero(right)
    wrong_count = min(len(wrong_ones), max(SHOWN // 2, SHOWN - len(right_ones)))
    chosen = [
        *wrong_ones[:wrong_count],
        *right_ones[: SHOWN - wrong_count],
    ]
    return np.array(chosen, "int64")


def _show(axes: Axes, image: np.ndarray) -> None:
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image)


def _short(name: str) -> str:
    return name if len(name) <= 14 else name[:13] + "…"
