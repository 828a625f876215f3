"""Tables of the runs of the translation study.

    python -m benchmarks.study benchmarks/results/translation --output plots

Reads every JSON file that `benchmarks.gpu.run` wrote, whatever runs are there.
A table has the runs of one corpus, size, number of pairs and of updates. It has
a row for each setting, best validation BLEU first, with the number of seeds and
the difference to the best setting of plain training, or of the arm that
`--reference` names, paired by seed, with the 95 % interval of Student's t. The
last two columns are the best greedy validation BLEU after half of the updates,
and within the training time of that setting.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.plans import SEARCH_SEED
from reproduce.common import runs
from reproduce.common.arms import ARMS
from reproduce.common.comparison import Measure
from reproduce.common.comparison import summarize
from reproduce.common.curves import Score
from reproduce.common.curves import plot_curves
from reproduce.common.errors import InputError

Record = dict[str, Any]
MEASURES = [
    Measure("valid", "bleu", "validation BLEU"),
    Measure("test", "bleu", "test BLEU"),
    Measure("test", "chrf", "test chrF"),
    Measure("test", "loss", "test loss, nats", digits=3),
]
LIMITS = ["BLEU at half the updates", "BLEU in equal time"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--output", type=Path, metavar="DIR", help="for plots")
    parser.add_argument(
        "--reference",
        choices=ARMS,
        default="plain",
        help="the arm that the others are compared with",
    )
    flags = parser.parse_args(arguments)
    try:
        tables = tables_of(read(flags.results))
    except InputError as error:
        parser.exit(2, f"{error}\n")
    for title, cells in tables.items():
        print(f"\n{title}\n")
        print("\n".join(markdown(cells, flags.reference)))
        if flags.output:
            name = title.replace(", ", "_").replace(" ", "_")
            flags.output.mkdir(parents=True, exist_ok=True)
            plot(cells, title, flags.output / f"{name}.png")


def read(directories: Iterable[Path]) -> list[Record]:
    """Reads the records of all runs.

    Raises:
        InputError: If a directory has none, or a file is of something else.
    """
    found = []
    for directory in directories:
        paths = sorted(directory.glob("*.json"))
        if not paths:
            raise InputError(f"{directory}: no JSON file of a run in it.")
        for path in paths:
            record = runs.read_json(path)
            if not isinstance(record, dict) or "curve" not in record:
                raise InputError(f"{path}: not the record of a run.")
            found.append(record)
    return found


def tables_of(records: list[Record]) -> dict[str, list[list[Record]]]:
    """Groups runs into tables of cells, by title, best cell first."""
    tables: dict[str, Any] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda r: r["settings"]["seed"]):
        settings, corpus = record["settings"], record["corpus"]
        title = ", ".join(
            [
                f"{corpus['name']} {corpus['source_language']}-"
                f"{corpus['target_language']}",
                settings["size"],
                f"{corpus['used']} pairs",
                f"{record['updates']} updates",
                *(["search"] if settings["seed"] == SEARCH_SEED else []),
            ]
        )
        cell = tuple((k, v) for k, v in settings.items() if k != "seed")
        tables[title][cell].append(record)
    return {
        title: sorted(cells.values(), key=lambda cell: -_mean(cell))
        for title, cells in sorted(tables.items())
    }


def markdown(cells: list[list[Record]], arm: str = "plain") -> list[str]:
    """Returns the lines of a table.

    Args:
        cells: The runs of each setting, best first.
        arm: The arm whose best setting the others are compared with.
    """
    reference = next(
        (cell for cell in cells if cell[0]["settings"]["arm"] == arm), None
    )
    names = _varying(cells)
    columns = ["arm", "seeds", *(m.title for m in MEASURES), LIMITS[0]]
    if reference:
        columns.append(LIMITS[1])
    lines = [_row(columns), _row(["---"] * len(columns))]
    for cell in cells:
        found = [_compared(cell, reference, measure) for measure in MEASURES]
        found.append(_spread(best_until(cell, "updates", _half(cell))))
        if reference:
            seconds = _last(reference, "train_seconds")
            found.append(_spread(best_until(cell, "train_seconds", seconds)))
        lines.append(_row([label(cell[0], names), str(len(cell)), *found]))
    return lines


def label(record: Record, names: Iterable[str]) -> str:
    """Returns the arm, and the settings of some names that it has."""
    settings = record["settings"]
    parts = [
        f"{name.replace('_', ' ')} {settings[name]:g}"
        for name in names
        if name in settings
    ]
    return ", ".join([settings["arm"], *parts])


def best_until(cell: list[Record], axis: str, limit: float) -> list[float]:
    """Returns the best greedy validation BLEU of each run up to a limit.

    Args:
        cell: The runs.
        axis: "updates" or "train_seconds".
        limit: The last value of the axis that counts. A run without a
            validation until then has 0.
    """
    return [
        max(
            (p["val_bleu"] for p in record["curve"] if p[axis] <= limit),
            default=0.0,
        )
        for record in cell
    ]


def plot(cells: list[list[Record]], title: str, path: Path) -> None:
    """Plots the curves of the best cell of each arm."""
    best: dict[str, list[Record]] = {}
    for cell in cells:
        best.setdefault(cell[0]["settings"]["arm"], cell)
    curves = [
        (arm, _history(record)) for arm, cell in best.items() for record in cell
    ]
    plot_curves(curves, title, path, Score("bleu", "validation BLEU, greedy"))


def _history(record: Record) -> dict[str, list[tuple[int, float]]]:
    points = record["curve"]
    return {
        name: [(point["epoch"], point[name]) for point in points]
        for name in points[0]
    }


def _varying(cells: list[list[Record]]) -> list[str]:
    """Returns the names of the numbers in which cells differ."""
    values: dict[str, set[Any]] = defaultdict(set)
    for cell in cells:
        for name, value in cell[0]["settings"].items():
            if name not in ("arm", "seed"):
                values[name].add(value)
    return [name for name, found in values.items() if len(found) > 1]


def _compared(
    cell: list[Record], reference: list[Record] | None, measure: Measure
) -> str:
    """Returns the mean of a cell, and its difference to the reference."""
    text = _spread([_value(r, measure) for r in cell], measure.digits)
    if reference is None or cell is reference:
        return text
    theirs = {r["settings"]["seed"]: r for r in reference}
    common = [r for r in cell if r["settings"]["seed"] in theirs]
    if not common:
        return text
    pairs = {
        "reference": [theirs[r["settings"]["seed"]] for r in common],
        "cell": common,
    }
    name = f"{measure.part}_{measure.name}"
    found = summarize(pairs, [measure])["cell"][name]
    text += f", {found['difference']:+.{measure.digits}f}"
    if found["difference_interval"]:
        low, high = found["difference_interval"]
        text += f" ({low:+.{measure.digits}f} to {high:+.{measure.digits}f})"
    return text


def _value(record: Record, measure: Measure) -> float:
    return record[measure.part][measure.name]


def _mean(cell: list[Record]) -> float:
    return statistics.fmean(_value(record, MEASURES[0]) for record in cell)


def _half(cell: list[Record]) -> float:
    return cell[0]["updates"] / 2


def _last(cell: list[Record], name: str) -> float:
    return statistics.fmean(record["curve"][-1][name] for record in cell)


def _spread(values: list[float], digits: int = 2) -> str:
    text = f"{statistics.fmean(values):.{digits}f}"
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):.{digits}f}"
    return text


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
