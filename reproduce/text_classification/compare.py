"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.compare import compare_settings
from reproduce.text_classification.presets import check_preset
from reproduce.text_classification.problems import AnyDataset
from reproduce.text_classification.problems import problem_of
from reproduce.text_classification.settings import Settings
from reproduce.text_classification.train import PROGRAM
from reproduce.text_classification.train import train


def compare(
    dataset: AnyDataset,
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
    check_preset(settings)
    problem = problem_of(dataset)
    return compare_settings(
        train,
        PROGRAM,
        dataset,
        settings,
        arms,
        seeds,
        output,
        problem.measures,
        f"{problem.name}, alpha {settings.alpha:g}, "
        f"dropout {settings.dropout:g}",
        problem.score,
        resume,
    )
