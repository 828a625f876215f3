"""Texts and labels from TSV and CSV files.

Files are UTF-8, one example a row, in the columns text and label. The suffix
says the delimiter: `.tsv` is separated by tabs and has no quoting; `.csv` is
separated by commas, and fields may be quoted, as RFC 4180 has it.

A first row that names a column `text` and a column `label`, in any order and
among any others, is a header. Without one there are exactly these two columns.
Empty rows are skipped. Anything else is refused, with file and line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.text_classification.data import Dataset
from reproduce.text_classification.data import Part

DIALECTS = {
    ".tsv": {"delimiter": "\t", "quoting": csv.QUOTE_NONE},
    ".csv": {"delimiter": ",", "strict": True},
}


def load_tables(train: Path, valid: Path, test: Path) -> Dataset:
    """Reads the three parts.

    The classes are the labels in the training file, of which there must be
    two or more; a label that only another file has is refused.
    """
    train_part = read_table(train)
    classes = set(train_part.labels)
    if len(classes) < 2:
        raise InputError(
            f"{train}: every label is {train_part.labels[0]!r}. Expected "
            "two or more classes."
        )
    return Dataset(
        name=train.stem,
        train=train_part,
        valid=read_table(valid, classes),
        test=read_table(test, classes),
    )


def read_table(path: Path, classes: set[str] | None = None) -> Part:
    """Reads one file.

    Args:
        path: A `.tsv` or `.csv` file.
        classes: The labels that may occur; all if not given.

    Raises:
        InputError: If the file cannot be read, or a row is not a text and
            a known label. The message names file and line.
    """
    texts, labels = [], []
    for line, text, label in _examples(path):
        if not text.strip() or not label.strip():
            missing = "label" if text.strip() else "text"
            raise InputError(f"{path}:{line}: the {missing} is empty.")
        label = label.strip()
        if classes is not None and label not in classes:
            raise InputError(
                f"{path}:{line}: the label {label!r} is not in the training "
                "file."
            )
        texts.append(text.strip())
        labels.append(label)
    if not texts:
        raise InputError(f"{path}: no examples in it.")
    return Part(tuple(texts), tuple(labels))


def _examples(path: Path) -> Iterator[tuple[int, str, str]]:
    rows = _rows(path)
    columns, text_at, label_at = 2, 0, 1
    for number, (line, row) in enumerate(rows):
        names = [field.strip().lower() for field in row]
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
    if path.suffix.lower() not in DIALECTS:
        raise InputError(
            f"{path}: the suffix says how a file is separated. Expected "
            f"{' or '.join(DIALECTS)}."
        )
    reader = csv.reader(
        io.StringIO(_decode(path), newline=""),
        **DIALECTS[path.suffix.lower()],
    )
    line = 1
    try:
        for row in reader:
            if row:
                yield line, row
            # A quoted field may span lines: name the row's first.
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: {error}.") from error


def _decode(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    try:
        # "-sig": spreadsheets begin their files with a byte order mark.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}:{line}: not UTF-8 (byte {content[error.start]:#04x}). "
            "Save the file as UTF-8."
        ) from error
