"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.common import runs
from examples.common.compare import compare_arms
from examples.text_classification.glue import GlueDataset
from examples.text_classification.metrics import seeds_summary
from examples.text_classification.presets import check_preset
from examples.text_classification.problem import Problem
from examples.text_classification.problems import AnyDataset
from examples.text_classification.problems import problem_of
from examples.text_classification.settings import Settings
from examples.text_classification.train import PROGRAM
from examples.text_classification.train import train


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
        What `compare_arms` returns; for GLUE also `headline`, by measure and
        arm what `seeds_summary` returns.
    """
    check_preset(settings)
    problem = problem_of(dataset)

    def train_one(arm: str, seed: int, directory: Path) -> dict[str, Any]:
        one = replace(settings, arm=arm, seed=seed)
        return train(dataset, one, directory, resume)

    result = compare_arms(
        train_one,
        PROGRAM,
        asdict(settings) | {"data": problem.facts()},
        arms,
        seeds,
        output,
        problem.measures,
        f"{problem.name}, alpha {settings.alpha:g}, "
        f"dropout {settings.dropout:g}",
        problem.score,
        resume,
    )
    if isinstance(dataset, GlueDataset):
        result["headline"] = _headline(problem, result["runs"])
        runs.write_json(output / runs.METRICS, result)
    return result


def _headline(
    problem: Problem, measured: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """Summarizes the headline measures, and prints what papers report."""
    summaries = {}
    for measure in problem.measures:
        summaries[measure.name] = {
            arm: seeds_summary(
                [metrics[measure.part][measure.name] for metrics in one_arm]
            )
            for arm, one_arm in measured.items()
        }
        for arm, summary in summaries[measure.name].items():
            spread = summary["standard_deviation"]
            print(
                f"{measure.title} of {arm}: median "
                f"{100 * summary['median']:.2f}, best "
                f"{100 * summary['best']:.2f}, standard deviation "
                + ("unknown" if spread is None else f"{100 * spread:.2f}")
            )
    return summaries
