"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from reproduce import outputs
from reproduce import runner
from reproduce.common import runs
from reproduce.common.comparison import Measure
from reproduce.common.comparison import print_summary
from reproduce.common.comparison import summarize
from reproduce.common.curves import Score
from reproduce.common.curves import plot_curves
from reproduce.common.history import read_history
from reproduce.task import Settings
from reproduce.task import Task

# A function that trains `(arm, seed, directory)` and returns the metrics.
Train = Callable[[str, int, Path], dict[str, Any]]


def run_directory(output: Path, arm: str, seed: int) -> Path:
    """Returns the directory of one run of a comparison."""
    return output / f"{arm}-seed-{seed}"


def compare(
    task: Task,
    data: Any,
    settings: Settings,
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
) -> dict[str, Any]:
    """Trains every arm on every seed, then writes and prints the results.

    The others are compared with the first arm. The result has `arms`, a summary
    of each arm, and `runs`.
    """
    output = settings.output

    def train(arm: str, seed: int, directory: Path) -> dict[str, Any]:
        one = replace(settings, arm=arm, seed=seed, output=directory)
        return runner.train(task, data, one)

    with outputs.claimed(
        output,
        task.name,
        settings.compared()
        | {"arm": arms, "seed": seeds, "data": data.facts()},
        settings.resume,
        settings.overwrite,
    ):
        result = compare_arms(
            train,
            settings.compared(),
            arms,
            seeds,
            output,
            task.measures(data),
            task.title(data, settings),
            task.curve(data),
        )
        directories = {
            (arm, seed): run_directory(output, arm, seed)
            for arm in arms
            for seed in seeds
        }
        task.compared(data, settings, directories)
    return result


def compare_arms(
    train: Train,
    settings: dict[str, Any],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output: Path,
    measures: list[Measure],
    title: str,
    score: Score,
) -> dict[str, Any]:
    """Trains the runs of `compare` into a directory that is already claimed."""
    # Seeds in the outer loop: an interrupted comparison has complete pairs.
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
    # Runs that stop early differ in their number of updates.
    up_to = "" if len(counts) == 1 else "up to "
    title = f"{title}: {len(seeds)} seed(s), {up_to}{max(counts)} updates"
    plot_curves(histories, title, output / runs.CURVES, score)
    result = {
        "settings": settings | {"arm": arms, "seed": seeds},
        "updates": max(counts),
        "arms": summary,
        "runs": measured,
    }
    runs.write_json(output / runs.METRICS, result)
    print_summary(summary, measures, title)
    return result
