"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from reproduce.common import runs
from reproduce.common.comparison import Measure
from reproduce.common.comparison import print_summary
from reproduce.common.comparison import summarize
from reproduce.common.curves import Score
from reproduce.common.curves import plot_curves
from reproduce.common.history import read_history

# Given arm, seed and directory, trains and returns the metrics.
Train = Callable[[str, int, Path], dict[str, Any]]


def run_directory(output: Path, arm: str, seed: int) -> Path:
    """Returns where a comparison puts one of its runs."""
    return output / f"{arm}-seed-{seed}"


def compare_arms(
    train: Train,
    program: str,
    settings: dict[str, Any],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
    measures: list[Measure],
    title: str,
    score: Score,
    resume: bool = False,
) -> dict[str, Any]:
    """Trains every arm on every seed, then writes and prints what came out.

    Args:
        train: Trains one arm on one seed.
        program: The name of the example.
        settings: What all runs share, as JSON values.
        arms: The arms; the first is what the others are compared with.
        seeds: The seeds.
        output: The directory to write: a directory for each run, and the
            picture and numbers of all.
        measures: What to compare.
        title: What was trained, and how.
        score: What the picture shows beside the loss.
        resume: Whether to go on with what is there.

    Returns:
        What `metrics.json` holds: `arms`, a summary of each, and `runs`.
    """
    shared = settings | {"arm": arms, "seed": seeds}
    runs.claim(output, program, shared, resume)
    # Seeds outside, arms inside: cut short, it still has whole pairs.
    measured: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed in seeds:
        for arm in arms:
            print(f"{arm}, seed {seed}", flush=True)
            metrics = train(arm, seed, run_directory(output, arm, seed))
            measured[arm].append(metrics)
    summary = summarize(measured, measures)
    histories = [
        (arm, read_history(run_directory(output, arm, seed) / runs.HISTORY))
        for arm in arms
        for seed in seeds
    ]
    counts = {each["updates"] for made in measured.values() for each in made}
    updates = max(counts)
    # Where runs stop by themselves they need not have made as many.
    up_to = "" if len(counts) == 1 else "up to "
    title = f"{title}: {len(seeds)} seed(s), {up_to}{updates} updates"
    plot_curves(histories, title, output / runs.CURVES, score)
    result = {
        "settings": shared,
        "updates": updates,
        "arms": summary,
        "runs": measured,
    }
    runs.write_json(output / runs.METRICS, result)
    print_summary(summary, measures, title)
    return result


def compare_settings(
    train: Callable[[Any, Any, Path, bool], dict[str, Any]],
    program: str,
    data: Any,
    settings: Any,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
    measures: list[Measure],
    title: str,
    score: Score,
    resume: bool = False,
) -> dict[str, Any]:
    """`compare_arms` for a program whose settings are a dataclass.

    Args:
        train: Given data, settings, directory and whether to resume, trains
            and returns the metrics.
        program: The name of the example.
        data: What to learn; `facts()` says how much there is of what.
        settings: How to, with fields `arm` and `seed`, which are replaced.
        arms: As for `compare_arms`, and so are the others.
        seeds: The seeds.
        output: The directory to write.
        measures: What to compare.
        title: What was trained, and how.
        score: What the picture shows beside the loss.
        resume: Whether to go on with what is there.

    Returns:
        What `compare_arms` returns.
    """

    def train_one(arm: str, seed: int, directory: Path) -> dict[str, Any]:
        one = replace(settings, arm=arm, seed=seed)
        return train(data, one, directory, resume)

    return compare_arms(
        train_one,
        program,
        asdict(settings) | {"data": data.facts()},
        arms,
        seeds,
        output,
        measures,
        title,
        score,
        resume,
    )
