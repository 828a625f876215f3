"""Reading GLUE's tab-separated files, column by column.

Files are UTF-8, with or without a byte order mark. A line ends at a line feed,
or carriage return and line feed, and quotation marks are plain characters: no
quoting, as in `csv.QUOTE_NONE`. What differs between the files (header,
columns, what is known to be broken) is in a `Layout`; all else is refused with
file and line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from reproduce.common.errors import InputError

# How many skipped lines a report names.
NAMED = 5
SHORT = "short line"


@dataclass(frozen=True)
class Layout:
    """Where a file has what. Columns go by name, or by place from 0 on.

    Attributes:
        first: The column of the first sentence.
        second: That of the second one, None if there is only one.
        label: That of the label, None in test files.
        ids: The columns that together name a line; there are no two lines of
            the same name.
        width: How many columns there are, in a file without a header; None if
            the header says so.
        skips_short_lines: Whether lines with too few columns are skipped.
        keeps_empty: Whether a sentence may be empty.
    """

    first: str | int
    second: str | int | None = None
    label: str | int | None = None
    ids: tuple[str, ...] = ()
    width: int | None = None
    skips_short_lines: bool = False
    keeps_empty: bool = False


class Row(NamedTuple):
    """A line of a file: where it stands, and what is in its columns."""

    where: str
    ids: tuple[str, ...]
    first: str
    second: str | None
    label: str | None


@dataclass
class Report:
    """What was skipped in reading: how often, and where at first."""

    counts: Counter[str] = field(default_factory=Counter)
    first: list[str] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many lines were skipped."""
        return sum(self.counts.values())

    def skip(self, where: str, problem: str) -> None:
        """Counts a skipped line, and names it if it is among the first."""
        self.counts[problem] += 1
        if len(self.first) < NAMED:
            self.first.append(f"{where}: {problem}")

    def __str__(self) -> str:
        if not self.counts:
            return "no lines skipped"
        counts = ", ".join(
            f"{count}: {problem}" for problem, count in self.counts.items()
        )
        more = "; ..." if self.skipped > len(self.first) else ""
        return f"{self.skipped} lines skipped ({counts}): " + (
            "; ".join(self.first) + more
        )


def read_rows(path: Path, layout: Layout, report: Report) -> Iterator[Row]:
    """Reads a file line by line.

    Args:
        path: The file.
        layout: Where it has what.
        report: Where to count lines that are skipped.

    Raises:
        InputError: If the file cannot be read, has not the columns of the
            layout, or a line has too few or too many of them, an empty
            sentence or the ids of an earlier line.
    """
    lines = read_lines(path)
    header, width = None, layout.width
    if width is None:
        header = [name.strip() for name in lines[0].split("\t")]
        width = len(header)
    columns = [
        _place(path, column, header)
        for column in (
            layout.first,
            layout.second,
            layout.label,
            *layout.ids,
        )
    ]
    seen: dict[tuple[str, ...], int] = {}
    start = 0 if header is None else 1
    for number, line in enumerate(lines[start:], start=start + 1):
        where = f"{path}:{number}"
        cells = line.split("\t")
        if len(cells) < width and layout.skips_short_lines:
            report.skip(where, SHORT)
            continue
        if len(cells) != width:
            raise InputError(
                f"{where}: expected {width} columns, got {len(cells)}. Mend "
                "the line: a sentence holds no tab and no end of line."
            )
        first, second, label, *ids = (
            None if column is None else cells[column].strip()
            for column in columns
        )
        row = Row(where, tuple(ids), first, second, label)
        if "" in (first, second) and not layout.keeps_empty:
            raise InputError(
                f"{where}: expected a sentence, got an empty column. Fill it "
                "in or remove the line."
            )
        if row.ids and seen.setdefault(row.ids, number) != number:
            raise InputError(
                f"{where}: expected a new {', '.join(layout.ids)}, got "
                f"{', '.join(row.ids)} of line {seen[row.ids]}. Remove one of "
                "the two lines."
            )
        yield row


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a file, of which there is at least one.

    A carriage return at the end stays: it goes with the white space around
    the last column.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}. Expected a file of GLUE."
        ) from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: expected UTF-8, got byte "
            f"{content[error.start]:#04x}. Save the file as UTF-8."
        ) from error
    # Not `splitlines`: it also ends lines at characters within sentences.
    lines = text.split("\n")
    if lines[-1] == "":
        # What follows the last line feed is no line.
        lines.pop()
    if not lines:
        raise InputError(
            f"{path}: expected lines of text, got an empty file. Fetch the "
            "file again."
        )
    return lines


def _place(
    path: Path, column: str | int | None, header: list[str] | None
) -> int | None:
    if column is None or isinstance(column, int):
        return column
    if header is None or column not in header:
        raise InputError(
            f"{path}:1: expected a column {column!r}, got "
            f"{', '.join(header or ())}. Check that this is the file of this "
            "task, with its header."
        )
    return header.index(column)
