"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.common.compare import compare_arms
from examples.common.comparison import Measure
from examples.common.curves import ACCURACY
from examples.text_classification.data import Dataset
from examples.text_classification.train import PROGRAM
from examples.text_classification.train import Settings
from examples.text_classification.train import train

MEASURES = [
    Measure("valid", "accuracy", "validation accuracy, %", scale=100),
    Measure("test", "accuracy", "test accuracy, %", scale=100),
    Measure("test", "loss", "test loss, nats", digits=3),
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

    def train_one(arm: str, seed: int, directory: Path) -> dict[str, Any]:
        one = replace(settings, arm=arm, seed=seed)
        return train(dataset, one, directory, resume)

    return compare_arms(
        train_one,
        PROGRAM,
        asdict(settings) | {"data": dataset.facts()},
        arms,
        seeds,
        output,
        MEASURES,
        f"{dataset.name}, alpha {settings.alpha:g}, "
        f"dropout {settings.dropout:g}",
        ACCURACY,
        resume,
    )
