"""Statistics and the table of arms trained on the same seeds."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

import scipy.stats
from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Measure:
    """A number in `metrics.json` of each run, with its label and format."""

    part: str
    name: str
    title: str
    scale: float = 1.0
    digits: int = 2

    def shown(self, value: float, sign: str = "") -> str:
        """Returns a value as text, with the sign "+" also if it is positive."""
        return f"{value * self.scale:{sign}.{self.digits}f}"


def summarize(
    runs: dict[str, list[dict[str, Any]]], measures: list[Measure]
) -> dict[str, Any]:
    """Returns mean, spread and paired differences for each arm.

    Args:
        runs: The metrics of the runs of each arm, all on the same seeds in
            the same order. The other arms are compared with the first one.
        measures: The numbers to compare.

    Returns:
        A dictionary by arm and measure (named `part_name`) with `values`,
        `median`, `mean` and `spread` (the sample standard deviation over
        seeds, None for one seed). All arms except the first also have the
        statistics of their values minus the first arm's value on the same
        seed: `difference`, `difference_spread` and `difference_interval`, the
        95 % interval of Student's t for the mean (None for one seed).
    """
    reference = next(iter(runs))
    summary: dict[str, Any] = {arm: {} for arm in runs}
    for measure in measures:
        part, name = measure.part, measure.name
        values = {
            arm: [metrics[part][name] for metrics in found]
            for arm, found in runs.items()
        }
        for arm, ours in values.items():
            entry = {
                "values": ours,
                "median": statistics.median(ours),
                "mean": statistics.fmean(ours),
                "spread": _spread(ours),
            }
            if arm != reference:
                pairs = zip(ours, values[reference])
                differences = [one - other for one, other in pairs]
                entry["difference"] = statistics.fmean(differences)
                entry["difference_spread"] = _spread(differences)
                entry["difference_interval"] = _interval(differences)
            summary[arm][f"{part}_{name}"] = entry
    return summary


def print_summary(
    summary: dict[str, Any],
    measures: list[Measure],
    title: str,
    console: Console | None = None,
) -> None:
    """Prints a table of means by arm, with medians and paired differences.

    With a single seed, medians are omitted.
    """
    table = Table(title=title, title_justify="left")
    table.add_column("arm", no_wrap=True)
    for measure in measures:
        table.add_column(measure.title, justify="right", no_wrap=True)
    reference = next(iter(summary))
    for arm, entries in summary.items():
        found = [(entries[f"{m.part}_{m.name}"], m) for m in measures]
        table.add_row(arm, *(_show(*each) for each in found))
        if len(found[0][0]["values"]) > 1:
            medians = (m.shown(value["median"]) for value, m in found)
            table.add_row("  median", *medians)
        if arm != reference:
            table.add_row(
                f"  minus {reference}",
                *(_show_difference(*each) for each in found),
                style="bold" if arm == "rdrop" else None,
            )
    table.caption = (
        "mean ± standard deviation over seeds; differences with the 95 % "
        "interval of Student's t"
    )
    table.caption_justify = "left"
    console = console or Console()
    wanted = console.measure(table, options=console.options.update(width=1000))
    # rich assumes 80 columns if the output is not a terminal, and would
    # truncate the numbers.
    console.width = max(console.width, wanted.maximum)
    console.print(table)


def _spread(values: list[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _interval(values: list[float]) -> tuple[float, float] | None:
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    error = statistics.stdev(values) / len(values) ** 0.5
    half = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def _show(value: dict[str, Any], measure: Measure) -> str:
    text = measure.shown(value["mean"])
    if value["spread"] is None:
        return text
    return f"{text} ± {measure.shown(value['spread'])}"


def _show_difference(value: dict[str, Any], measure: Measure) -> str:
    text = measure.shown(value["difference"], "+")
    if value["difference_interval"] is None:
        return text
    low, high = (measure.shown(x, "+") for x in value["difference_interval"])
    return f"{text} ({low} to {high})"
