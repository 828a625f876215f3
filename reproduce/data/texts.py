"""Labeled texts in three parts, and a reader of tables.

Tables are UTF-8 files with one example per row, in the columns text and label.
The suffix determines the delimiter: `.tsv` is separated by tabs, without
quoting; `.csv` by commas, with quoting as in RFC 4180. A first row that names a
column `text` and a column `label` is a header. Without a header, the file has
exactly these two columns. Empty rows are skipped.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.common.errors import InputError

DIALECTS: dict[str, dict[str, Any]] = {
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
    ".csv": {"delimiter": ",", "strict": True},
}


@dataclass(frozen=True)
class Part:
    """Texts or pairs of texts, with class names or scores if known."""

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...] | tuple[float, ...] | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class Dataset:
    """A training part, and validation and test parts by name.

    Attributes:
        classes: The class names by class index; empty for scores.
        metrics: The names of the metrics, as in `glue_metrics`.
        headline: The metric that comparisons report.
        extra: Further facts to show.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    valid: dict[str, Part]
    test: dict[str, Part]
    metrics: tuple[str, ...] = ("accuracy",)
    headline: str = "accuracy"
    extra: dict[str, Any] = field(default_factory=dict)

    def targets_of(self, part: Part) -> np.ndarray:
        """Returns labels as class indices, or scores of shape `(rows, 1)`."""
        if part.labels is None:
            raise ValueError("Expected a part with labels. Received: a test.")
        if not self.classes:
            return np.array(part.labels, "float32")[:, None]
        index_of = {name: index for index, name in enumerate(self.classes)}
        return np.array([index_of[label] for label in part.labels], "int32")

    def facts(self) -> dict[str, Any]:
        """Returns the name and the sizes of the dataset."""
        sizes = {
            f"{kind} {name}" if len(parts) > 1 else kind: len(part)
            for kind, parts in (("valid", self.valid), ("test", self.test))
            for name, part in parts.items()
        }
        return {
            "name": self.name,
            "classes": len(self.classes),
            "train": len(self.train),
            **sizes,
            **self.extra,
        }


def load_tables(train: Path, valid: Path, test: Path) -> Dataset:
    """Reads three tables, of which the training table names the classes."""
    part = read_table(train)
    classes = tuple(sorted(set(part.labels or ())))
    if len(classes) < 2:
        raise InputError(
            f"{train}: every label is {classes[0]!r}. Expected two or more "
            "classes."
        )
    return Dataset(
        train.stem,
        classes,
        part,
        {"valid": read_table(valid, set(classes))},
        {"test": read_table(test, set(classes))},
    )


def read_table(path: Path, classes: set[str] | None = None) -> Part:
    """Reads one table, with any labels or with those of these classes."""
    texts, labels = [], []
    for line, *cells in _examples(path):
        text, label = (cell.strip() for cell in cells)
        if not text or not label:
            missing = "label" if text else "text"
            raise InputError(f"{path}:{line}: the {missing} is empty.")
        if classes is not None and label not in classes:
            raise InputError(
                f"{path}:{line}: the label {label!r} is not in the training "
                "file."
            )
        texts.append(text)
        labels.append(label)
    if not texts:
        raise InputError(f"{path}: no examples in it.")
    return Part(tuple(texts), None, tuple(labels))


def read_text(path: Path) -> str:
    """Reads a UTF-8 file, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    return decoded(content, path, "Save the file as UTF-8.")


def decoded(content: bytes, path: Path, advice: str) -> str:
    """Returns the text of a file, or names the line that is not UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: expected UTF-8, got byte "
            f"{content[error.start]:#04x}. {advice}"
        ) from error


def _examples(path: Path) -> Iterator[tuple[int, str, str]]:
    columns, text_at, label_at = 2, 0, 1
    for number, (line, row) in enumerate(_rows(path)):
        names = [cell.strip().lower() for cell in row]
        if number == 0 and {"text", "label"} <= set(names):
            columns = len(names)
            text_at, label_at = names.index("text"), names.index("label")
            continue
        if len(row) != columns:
            raise InputError(
                f"{path}:{line}: expected {columns} columns, got {len(row)}."
            )
        yield line, row[text_at], row[label_at]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    dialect = DIALECTS.get(path.suffix.lower())
    if dialect is None:
        raise InputError(
            f"{path}: the suffix says how a file is separated. Expected "
            f"{' or '.join(DIALECTS)}."
        )
    reader = csv.reader(io.StringIO(read_text(path), newline=""), **dialect)
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            # A quoted cell may span lines: errors name the row's first line.
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: {error}.") from error
