"""The table of finished runs of `reproduce`, each arm with its own settings.

    python -m benchmarks.finished benchmarks/results/debian_sections \\
        --measures valid.accuracy test.accuracy test.loss

Each run is a folder with a `metrics.json` in the given directory. A directory
without such folders holds copies of these files under other names. Runs that
differ only in their seed form one row. By the first measure, the best row of
plain training, or of the arm that `--reference` names, is the one that all
others are compared with, paired by seed, with the 95 % interval of Student's t.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.common import runs
from reproduce.common.arms import ARMS
from reproduce.common.comparison import Measure
from reproduce.common.comparison import print_summary
from reproduce.common.comparison import summarize
from reproduce.common.errors import InputError

Metrics = dict[str, Any]
# What does not change the model that a run ends with.
LEFT_OUT = ("arm", "seed", "output", "resume", "overwrite")
PERCENT = ("accuracy",)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, metavar="DIR")
    parser.add_argument(
        "--measures", nargs="+", required=True, metavar="PART.NAME"
    )
    parser.add_argument("--reference", choices=ARMS, default="plain")
    flags = parser.parse_args(arguments)
    measures = [_measure(name) for name in flags.measures]
    try:
        rows = rows_of(read(flags.results), measures[0], flags.reference)
    except InputError as error:
        parser.exit(2, f"{error}\n")
    print_summary(summarize(rows, measures), measures, str(flags.results))


def read(directory: Path) -> list[Metrics]:
    """Reads the metrics of all runs.

    Raises:
        InputError: If the directory has no runs, or if a file has no settings.
    """
    found = []
    paths = sorted(directory.glob("*/metrics.json"))
    for path in paths or sorted(directory.glob("*.json")):
        metrics = runs.read_json(path)
        if not isinstance(metrics, dict) or "settings" not in metrics:
            raise InputError(f"{path}: not the metrics of a run.")
        found.append(metrics)
    if not found:
        raise InputError(f"{directory}: no JSON file of a run in it.")
    return found


def rows_of(
    found: list[Metrics], measure: Measure, reference: str
) -> dict[str, list[Metrics]]:
    """Groups runs into rows, by a label, with the reference first.

    Args:
        found: The metrics of the runs.
        measure: The measure that tells the best row of an arm.
        reference: The arm that the others are compared with.

    Raises:
        InputError: If no run has that arm, or if the seeds of two rows differ.
    """
    groups: dict[str, list[Metrics]] = defaultdict(list)
    for metrics in sorted(found, key=lambda each: each["settings"]["seed"]):
        settings = metrics["settings"]
        # Alpha means nothing to the other arms.
        hidden = (
            LEFT_OUT if settings["arm"] == "rdrop" else (*LEFT_OUT, "alpha")
        )
        varying = [
            f"{name} {value}"
            for name, value in settings.items()
            if name not in hidden
            and any(other["settings"].get(name) != value for other in found)
        ]
        groups[", ".join([settings["arm"], *varying])].append(metrics)

    def mean(label):
        return statistics.fmean(
            each[measure.part][measure.name] for each in groups[label]
        )

    better = min if measure.name in ("loss", "token_perplexity") else max
    own = [x for x in groups if groups[x][0]["settings"]["arm"] == reference]
    if not own:
        raise InputError(f"Expected runs of the arm {reference}. Got none.")
    first = better(own, key=mean)
    seeds = [each["settings"]["seed"] for each in groups[first]]
    for label, runs_of_row in groups.items():
        others = [each["settings"]["seed"] for each in runs_of_row]
        if others != seeds:
            raise InputError(
                f"Expected all rows to have the seeds of {first}, {seeds}. "
                f"Got {others} in {label}."
            )
    return {first: groups[first], **groups}


def _measure(name: str) -> Measure:
    part, _, measure = name.partition(".")
    percent = measure in PERCENT
    title = f"{part} {measure.replace('_', ' ')}{', %' if percent else ''}"
    return Measure(
        part, measure, title, 100 if percent else 1, 2 if percent else 3
    )


if __name__ == "__main__":
    main()
