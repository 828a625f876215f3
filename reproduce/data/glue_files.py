"""A reader of GLUE's files, and a report of skipped lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from reproduce.common.errors import InputError
from reproduce.data.glue_tasks import Columns
from reproduce.data.glue_tasks import GlueTask
from reproduce.data.texts import read_text

# The number of skipped lines that a report names.
NAMED = 5


@dataclass
class Report:
    """The number of skipped lines by reason, and the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    def skip(self, where: str, problem: str) -> None:
        """Counts a skipped line."""
        self.counts[problem] += 1
        if len(self.first) < NAMED:
            self.first.append(f"{where}: {problem}")

    @property
    def skipped(self) -> int:
        """The number of skipped lines."""
        return self.counts.total()

    def __str__(self) -> str:
        if not self.counts:
            return "no lines skipped"
        counts = ", ".join(f"{n}: {text}" for text, n in self.counts.items())
        first = "; ".join(self.first)
        more = "; ..." if self.skipped > len(self.first) else ""
        return f"{self.skipped} lines skipped ({counts}): {first}{more}"


class Row(NamedTuple):
    """The cells of a line, and its file and line number."""

    where: str
    ids: tuple[str, ...]
    first: str
    second: str | None
    label: str | None


def read_rows(
    task: GlueTask, path: Path, columns: Columns, report: Report
) -> Iterator[Row]:
    """Reads the examples of a file. The report counts skipped lines."""
    lines = read_lines(path)
    header, width, start = [], columns.width, 0
    if width is None:
        header = [name.strip() for name in lines[0].split("\t")]
        width, start = len(header), 1
    wanted = (columns.first, columns.second, columns.label, *columns.ids)
    first, second, label, *ids = (_place(path, x, header) for x in wanted)
    seen: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(lines[start:], start=start + 1):
        where = f"{path}:{number}"
        cells = [cell.strip() for cell in line.split("\t")]
        # Test files keep such lines: GLUE wants a prediction for each.
        if len(cells) < width and task.broken and columns.label is not None:
            report.skip(where, "short line")
            continue
        if len(cells) != width:
            raise InputError(
                f"{where}: expected {width} columns, got {len(cells)}. Mend "
                "the line: a sentence holds no tab and no end of line."
            )
        row = Row(
            where,
            tuple(cells[place] for place in ids),
            cells[first],
            None if second is None else cells[second],
            None if label is None else cells[label],
        )
        if "" in (row.first, row.second) and not task.broken:
            raise InputError(
                f"{where}: expected a sentence, got an empty column. Fill it "
                "in or remove the line."
            )
        if row.ids and seen.setdefault(row.ids, number) != number:
            raise InputError(
                f"{where}: expected a new {', '.join(columns.ids)}, got "
                f"{', '.join(row.ids)} of line {seen[row.ids]}. Remove one of "
                "the two lines."
            )
        if task.no_label is not None and row.label == task.no_label:
            report.skip(where, f"label {row.label!r}")
            continue
        yield row


def read_lines(path: Path) -> list[str]:
    """Returns the lines of a file that is not empty."""
    # `splitlines` would also split at characters inside sentences.
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    if not lines:
        raise InputError(
            f"{path}: expected lines of text, got an empty file. Fetch the "
            "file again."
        )
    return lines


def _place(
    path: Path, column: str | int | None, header: list[str]
) -> int | None:
    if column is None or isinstance(column, int):
        return column
    if column not in header:
        raise InputError(
            f"{path}:1: expected a column {column!r}, got "
            f"{', '.join(header)}. Check that this is the file of this task, "
            "with its header."
        )
    return header.index(column)
