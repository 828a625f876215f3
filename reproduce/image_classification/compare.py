"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.compare import compare_settings
from reproduce.common.compare import run_directory
from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.data.images import Dataset
from reproduce.image_classification.settings import Settings
from reproduce.image_classification.train import PREDICTIONS
from reproduce.image_classification.train import PROGRAM
from reproduce.image_classification.train import RELIABILITY
from reproduce.image_classification.train import read_logits
from reproduce.image_classification.train import train
from reproduce.image_reports import plot_predictions
from reproduce.image_reports import plot_reliability
from reproduce.image_reports import probabilities_of

MEASURES = [
    Measure("valid", "accuracy", "validation, %", scale=100),
    Measure("test", "accuracy", "test, %", scale=100),
    Measure("test", "loss", "test loss", digits=3),
    Measure("test", "calibration_error", "calibration, %", scale=100),
]


def compare(
    dataset: Dataset,
    settings: Settings,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains every arm on every seed, then writes and prints what came out.

    The pictures of predictions show the first and the last arm, and that of
    reliability all arms, on the first seed.

    Args:
        dataset: What to learn.
        settings: How to, but for arm and seed.
        arms: The arms; the first is what the others are compared with.
        seeds: The seeds.
        output: The directory to write.
        resume: Whether to go on with what is there.

    Returns:
        What `compare_arms` returns.
    """
    title = (
        f"{dataset.name}, alpha {settings.alpha:g}, dropout "
        f"{settings.dropout:g}"
    )
    result = compare_settings(
        train,
        PROGRAM,
        dataset,
        settings,
        arms,
        seeds,
        output,
        MEASURES,
        title,
        ACCURACY,
        resume,
    )
    predicted = [
        (arm, probabilities_of(read_logits(run_directory(output, arm, seed))))
        for seed in seeds[:1]
        for arm in arms
    ]
    title = f"{title}, seed {seeds[0]}"
    plot_reliability(
        predicted, dataset.test.labels, title, output / RELIABILITY
    )
    plot_predictions(
        [predicted[0], predicted[-1]], dataset, title, output / PREDICTIONS
    )
    return result
