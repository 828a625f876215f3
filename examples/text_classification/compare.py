"""Arms trained on the same seeds, side by side."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from examples.common import runs
from examples.common.comparison import Measure
from examples.common.comparison import print_summary
from examples.common.comparison import summarize
from examples.common.curves import plot_curves
from examples.common.history import read_history
from examples.text_classification.data import Dataset
from examples.text_classification.train import PROGRAM
from examples.text_classification.train import Settings
from examples.text_classification.train import train

MEASURES = [
    Measure("valid", "accuracy", "validation accuracy, %", scale=100),
    Measure("test", "accuracy", "test accuracy, %", scale=100),
    Measure("test", "loss", "test loss, nats", digits=3),
]


def run_directory(output: Path, arm: str, seed: int) -> Path:
    """Returns where a comparison puts one of its runs."""
    return output / f"{arm}-seed-{seed}"


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
        output: The directory to write: a directory for each run, and the
            picture and numbers of all.
        resume: Whether to go on with what is there.

    Returns:
        What `metrics.json` holds: `arms`, a summary of each, and `runs`.
    """
    facts = dataset.facts()
    shared = asdict(settings) | {"arm": arms, "seed": seeds, "data": facts}
    runs.claim(output, PROGRAM, shared, resume)
    # Seeds outside, arms inside: cut short, it still has whole pairs.
    measured: dict[str, list[dict[str, Any]]] = {arm: [] for arm in arms}
    for seed in seeds:
        for arm in arms:
            print(f"{arm}, seed {seed}", flush=True)
            metrics = train(
                dataset,
                replace(settings, arm=arm, seed=seed),
                run_directory(output, arm, seed),
                resume,
            )
            measured[arm].append(metrics)
    summary = summarize(measured, MEASURES)
    histories = [
        (arm, read_history(run_directory(output, arm, seed) / runs.HISTORY))
        for arm in arms
        for seed in seeds
    ]
    title = f"{dataset.name}: {len(seeds)} seed(s) per arm"
    plot_curves(histories, title, output / runs.CURVES)
    updates = measured[arms[0]][0]["updates"]
    result = {
        "settings": shared,
        "updates": updates,
        "arms": summary,
        "runs": measured,
    }
    runs.write_json(output / runs.METRICS, result)
    print_summary(
        summary,
        MEASURES,
        f"{dataset.name}: {len(seeds)} seed(s), {updates} updates, "
        f"alpha {settings.alpha:g}, dropout {settings.dropout:g}",
    )
    return result
