"""Ratios of arms with their spread, as a table, a JSON file and a plot."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import machine

# The text of a value in each unit.
SHOWN = {
    "seconds": lambda x: f"{x:.2f} s" if x >= 1 else f"{1000 * x:.1f} ms",
    "bytes": lambda x: f"{x / 2**20:,.0f} MiB",
}


class Report:
    """Collects rows, writes each immediately, and shows all at the end.

    Args:
        name: The name of the benchmark and of its files.
        title: The quantity that the values measure.
        unit: "seconds" or "bytes".
        flags: The parsed command line.
        columns: Further columns of the table: the text for each row.
    """

    def __init__(
        self,
        name: str,
        title: str,
        unit: str,
        flags: argparse.Namespace,
        columns: dict[str, Callable[[dict[str, Any]], str]] | None = None,
    ):
        self.name = name
        self.title = title
        self.unit = unit
        self.columns = columns or {}
        self.rows: list[dict[str, Any]] = []
        self.skipped: list[dict[str, str]] = []
        self._settings = {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(flags).items()
        }
        self._machine = machine()
        self._path = _json_path(flags.output, name)

    def add(
        self,
        case: str,
        xla: bool,
        base: str,
        values: dict[str, list[float]],
        facts: dict[str, dict[str, Any]] | None = None,
        against: Sequence[float] | None = None,
    ) -> None:
        """Adds the measurements of the arms of a case.

        Args:
            case: The name of the model or of the sizes.
            xla: Whether XLA compiled the arms.
            base: The arm that is the base of the ratios.
            values: The values of each arm. If arms took turns, values at the
                same index are from the same turn.
            facts: Further facts to store, by arm.
            against: The values of the base. The default is `values[base]`.
        """
        against = values[base] if against is None else against
        for arm, mine in values.items():
            ratio, quartiles = ratio_of(mine, against)
            row = {
                "case": case,
                "xla": xla,
                "arm": arm,
                "base": base,
                "ratio": ratio,
                "quartiles": quartiles,
                "median": statistics.median(mine),
                self.unit: mine,
            }
            self.rows.append(row | (facts or {}).get(arm, {}))
        self._write()

    def skip(self, case: str, arm: str, reason: str) -> None:
        """Reports the reason why an arm is not measured."""
        self.skipped.append({"case": case, "arm": arm, "reason": reason})
        print(f"skipped: {case}, {arm}: {reason}", flush=True)
        self._write()

    def finish(self) -> None:
        """Prints a table and draws a plot."""
        width = 120 if self.columns else None
        Console(width=width).print(self._table())
        if self._path is not None:
            image = self._path.with_suffix(".png")
            plot(self.rows, self.title, image)
            print(f"written to {self._path} and {image}")

    def _write(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = {
            "benchmark": self.name,
            "title": self.title,
            "unit": self.unit,
            "settings": self._settings,
            "machine": self._machine,
            "rows": self.rows,
            "skipped": self.skipped,
        }
        text = json.dumps(content, indent=2) + "\n"
        self._path.write_text(text, encoding="utf-8")

    def _table(self) -> Table:
        table = Table(title=self.title, title_justify="left")
        table.add_column("case", overflow="fold")
        table.add_column("XLA")
        table.add_column("arm", no_wrap=True)
        for column in ("ratio", "quartiles", "median", *self.columns):
            table.add_column(column, justify="right", no_wrap=True)
        before = None
        for row in self.rows:
            group = (row["case"], "on" if row["xla"] else "off")
            if before not in (None, group):
                table.add_section()
            low, high = row["quartiles"]
            table.add_row(
                *(group if group != before else ("", "")),
                row["arm"],
                f"{row['ratio']:.2f}",
                f"{low:.2f} to {high:.2f}",
                SHOWN[self.unit](row["median"]),
                *(text(row) for text in self.columns.values()),
            )
            before = group
        bases = sorted({row["base"] for row in self.rows})
        table.caption = f"ratio of medians to: {', '.join(bases)}"
        table.caption_justify = "left"
        return table


def ratio_of(
    values: Sequence[float], base: Sequence[float]
) -> tuple[float, list[float]]:
    """Returns the ratio of medians, and the quartiles of the turns' ratios.

    Within a turn both arms run under similar conditions, so that most
    disturbances cancel out in its ratio.
    """
    ratio = statistics.median(values) / statistics.median(base)
    ratios = [a / b for a, b in zip(values, base)]
    if len(ratios) < 2:
        return ratio, [ratio, ratio]
    low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return ratio, [low, high]


def plot(rows: list[dict[str, Any]], title: str, path: Path) -> None:
    """Plots ratios as bars and quartiles as whiskers, one panel per case."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row["case"] for row in rows))
    columns = min(len(cases), 3)
    lines = -(-len(cases) // columns)
    longest = max(
        len({row["arm"] for row in rows if row["case"] == case})
        for case in cases
    )
    figure, axes = pyplot.subplots(
        lines,
        columns,
        figsize=(4.6 * columns, lines * (0.32 * longest + 1.2)),
        squeeze=False,
        layout="constrained",
    )
    for axis, case in zip(axes.flat, cases):
        _panel(axis, [row for row in rows if row["case"] == case])
        axis.set_title(case, fontsize=9)
    for axis in axes.flat[len(cases) :]:
        axis.set_visible(False)
    axes[0][0].legend(fontsize=7)
    bases = sorted({row["base"] for row in rows})
    figure.suptitle(f"{title}, ratio to: {', '.join(bases)}", fontsize=10)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _panel(axis: Any, rows: list[dict[str, Any]]) -> None:
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    compiled = sorted({row["xla"] for row in rows})
    height = 0.8 / len(compiled)
    for place, xla in enumerate(compiled):
        mine = [row for row in rows if row["xla"] == xla]
        shift = (place - (len(compiled) - 1) / 2) * height
        ratios = [row["ratio"] for row in mine]
        # The ratio of medians may lie outside the turns' quartiles.
        whiskers = [
            [max(row["ratio"] - row["quartiles"][0], 0) for row in mine],
            [max(row["quartiles"][1] - row["ratio"], 0) for row in mine],
        ]
        axis.barh(
            [arms.index(row["arm"]) + shift for row in mine],
            ratios,
            height,
            xerr=whiskers,
            error_kw={"elinewidth": 0.8},
            color="tab:orange" if xla else "tab:blue",
            label="XLA" if xla else "no XLA",
        )
    axis.axvline(1, color="black", linewidth=0.8)
    axis.set_yticks(range(len(arms)), arms, fontsize=7)
    axis.tick_params(axis="x", labelsize=7)
    axis.invert_yaxis()


def _json_path(output: Path | None, name: str) -> Path | None:
    if output is None or output.suffix == ".json":
        return output
    return output / f"{name}.json"
