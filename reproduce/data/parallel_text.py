"""Pairs of texts, line by line, for example sentences and translations.

Files are UTF-8, with or without a byte order mark, with one text per line.
Lines end with a line feed, or with a carriage return and a line feed. Unicode's
other line separators, such as U+2028, do not end a line, because the two files
of a pair would then get out of step.

A pair is malformed if a side is empty, is not UTF-8 or contains a NUL byte, or
if a row of a TSV file does not have two columns. With `skip`, the readers skip
malformed pairs, and the report has their number and the positions of the first
ones. Otherwise they refuse the first malformed pair.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError

# The number of malformed pairs that a report names.
NAMED = 5


@dataclass(frozen=True)
class ParallelText:
    """Sources and their targets, at the same positions."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]

    def __post_init__(self):
        if len(self.sources) != len(self.targets):
            raise ValueError(
                "Expected one target per source. Received: "
                f"{len(self.sources)} sources, {len(self.targets)} targets"
            )

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> ParallelText:
        """Returns the texts of pairs, of which there must be some."""
        return cls(*zip(*pairs))

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Report:
    """The number of skipped pairs, and the positions of the first ones."""

    counts: dict[str, int] = field(default_factory=dict)
    first: tuple[str, ...] = ()

    @property
    def skipped(self) -> int:
        """The number of skipped pairs."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        if not self.counts:
            return "no malformed pairs"
        counts = ", ".join(
            f"{count}: {problem}" for problem, count in self.counts.items()
        )
        more = "; ..." if self.skipped > len(self.first) else ""
        return (
            f"{self.skipped} malformed pairs skipped ({counts}): "
            f"{'; '.join(self.first)}{more}"
        )


def read_parallel(
    source: Path, target: Path, skip: bool = False
) -> tuple[ParallelText, Report]:
    """Reads a file of sources and the file of their targets."""
    source_lines, target_lines = _lines(source), _lines(target)
    if len(source_lines) != len(target_lines):
        raise InputError(
            f"{source} has {len(source_lines)} lines, {target} has "
            f"{len(target_lines)}. Expected a target for every source: "
            "look where the two come apart."
        )

    def parse(number: int, rows: tuple[bytes, bytes]) -> tuple[str, str]:
        return (
            clean_text(rows[0], f"{source}:{number}"),
            clean_text(rows[1], f"{target}:{number}"),
        )

    return collect_pairs(parse, zip(source_lines, target_lines), source, skip)


def read_tsv(path: Path, skip: bool = False) -> tuple[ParallelText, Report]:
    """Reads a file of two columns, separated by a tab, without quoting."""

    def parse(number: int, line: bytes) -> tuple[str, str]:
        where = f"{path}:{number}"
        columns = _decoded(line, where).split("\t")
        if len(columns) != 2:
            raise Malformed(where, f"{len(columns)} columns, not 2")
        return (
            _stripped(columns[0], f"{where}, column 1"),
            _stripped(columns[1], f"{where}, column 2"),
        )

    return collect_pairs(parse, _lines(path), path, skip)


def read_sentences(path: Path) -> list[str]:
    """Reads one text per line. An empty line is an empty text."""
    try:
        return [
            _decoded(line, f"{path}:{number}")
            for number, line in enumerate(_lines(path), start=1)
        ]
    except Malformed as error:
        raise InputError(f"{error}. Save the file as UTF-8.") from None


class Malformed(Exception):
    """The fault of a malformed pair, with its position."""

    def __init__(self, where: str, problem: str):
        super().__init__(f"{where}: {problem}")
        self.problem = problem


def collect_pairs(
    parse: Callable[[int, Any], tuple[str, str]],
    rows: Iterable[Any],
    path: Path,
    skip: bool,
) -> tuple[ParallelText, Report]:
    """Parses rows into pairs, and reports malformed rows.

    Args:
        parse: A function of a row's number, which starts at 1, and the row. It
            returns the pair or raises `Malformed`.
        path: The file of the rows, for messages.
    """
    pairs, first, counts = [], [], Counter()
    for number, row in enumerate(rows, start=1):
        try:
            pairs.append(parse(number, row))
        except Malformed as error:
            if not skip:
                raise InputError(
                    f"{error}. Expected a source and its target: mend "
                    "the pair or remove it."
                ) from None
            counts[error.problem] += 1
            first.append(str(error))
    report = Report(dict(counts), tuple(first[:NAMED]))
    if not pairs:
        problem = f": {report}" if first else ""
        raise InputError(f"{path}: no pairs in it{problem}.")
    return ParallelText.of(pairs), report


def _lines(path: Path) -> list[bytes]:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    if lines[-1] == b"":
        # The last line feed ends a line and does not begin another one.
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def clean_text(content: bytes, where: str) -> str:
    """Returns a decoded text without leading and trailing spaces."""
    return _stripped(_decoded(content, where), where)


def _decoded(line: bytes, where: str) -> str:
    if b"\0" in line:
        raise Malformed(where, "holds a NUL byte")
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed(where, "not UTF-8") from None


def _stripped(text: str, where: str) -> str:
    if not text.strip():
        raise Malformed(where, "empty")
    return text.strip()
