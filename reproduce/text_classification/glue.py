"""The eight GLUE tasks of the R-Drop paper, from GLUE's own files.

A task is a directory of tab-separated files as gluebenchmark.com publishes
them: `train.tsv`, `dev.tsv` (MNLI: `dev_matched.tsv`, `dev_mismatched.tsv`)
and, not required, the test files, whose labels are not public. MRPC is also
read as Microsoft publishes it: `msr_paraphrase_train.txt`, of which GLUE's
`dev_ids.tsv` says what is for validation.

Skipped, and counted in the report, is only what the published files are known
to have broken: lines of QQP that lack columns, in `train.tsv` and `dev.tsv`,
and lines of MNLI on whose label the annotators did not agree (`-`). Empty
questions of QQP are kept, since Quora asked them. All else that is not as it
should be is refused with file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.text_classification.glue_files import Report
from reproduce.text_classification.glue_files import Row
from reproduce.text_classification.glue_files import read_lines
from reproduce.text_classification.glue_files import read_rows
from reproduce.text_classification.glue_tasks import GLUE_TASKS
from reproduce.text_classification.glue_tasks import GlueTask

MICROSOFT_TRAIN = "msr_paraphrase_train.txt"
MICROSOFT_TEST = "msr_paraphrase_test.txt"
# What GLUE's script and what its address call the same file.
DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")


@dataclass(frozen=True)
class GluePart:
    """Sentences and, position by position, their labels.

    Attributes:
        first: The first sentences.
        second: The second ones, None if an example is one sentence.
        labels: Class names or scores, None if they are not public.
    """

    first: tuple[str, ...]
    second: tuple[str, ...] | None
    labels: tuple[str, ...] | tuple[float, ...] | None

    def __len__(self) -> int:
        return len(self.first)


@dataclass(frozen=True)
class GlueDataset:
    """A task's training part, and its validation and test parts by name."""

    task: GlueTask
    train: GluePart
    valid: dict[str, GluePart]
    test: dict[str, GluePart]
    report: Report

    def targets_of(self, part: GluePart) -> np.ndarray:
        """Returns the labels of a part as class indices or as scores."""
        if part.labels is None:
            raise ValueError("Expected a part with labels. Received: a test.")
        if self.task.is_regression:
            return np.array(part.labels, "float32")
        index_of = {name: i for i, name in enumerate(self.task.classes)}
        return np.array([index_of[label] for label in part.labels], "int32")

    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""
        sizes = {
            f"{kind} {name}" if len(parts) > 1 else kind: len(part)
            for kind, parts in (("valid", self.valid), ("test", self.test))
            for name, part in parts.items()
        }
        return {
            "name": f"GLUE {self.task.folder}",
            "classes": len(self.task.classes),
            "train": len(self.train),
            **sizes,
            "skipped": self.report.skipped,
        }


def load_glue(task: str, directory: Path) -> GlueDataset:
    """Reads a task from its directory.

    Args:
        task: One of `GLUE_TASKS`.
        directory: The one that holds the task's files, or the one that holds
            it, as `MRPC` for instance.

    Raises:
        InputError: If there is no such task, or a file is missing, empty or
            not what it should be. The message names file and line.
    """
    if task not in GLUE_TASKS:
        raise InputError(
            f"Expected a GLUE task out of {', '.join(GLUE_TASKS)}, got {task}."
        )
    found, report = GLUE_TASKS[task], Report()
    directory = Path(directory)
    if (directory / found.folder).is_dir():
        directory /= found.folder
    if not directory.is_dir():
        raise InputError(
            f"{directory}: not a directory. Expected the one of GLUE's "
            f"{found.folder}."
        )
    test_files = found.test
    if found.name == "mrpc" and _is_microsoft(directory):
        train, valid = _read_microsoft(found, directory, report)
        test_files = {"test": MICROSOFT_TEST}
    else:
        missing = [
            name
            for name in ("train.tsv", *found.valid.values())
            if not (directory / name).is_file()
        ]
        if missing:
            raise InputError(
                f"{directory}: no {', '.join(missing)} in it. Expected the "
                f"files of GLUE's {found.folder}."
            )
        train = _read_part(found, directory / "train.tsv", report)
        valid = {
            name: _read_part(found, directory / file, report)
            for name, file in found.valid.items()
        }
    test = {
        name: _read_test(found, directory / file, report)
        for name, file in test_files.items()
        if (directory / file).exists()
    }
    return GlueDataset(found, train, valid, test, report)


def _is_microsoft(directory: Path) -> bool:
    # Where GLUE's script made its files, Microsoft's lie beside them.
    return (directory / MICROSOFT_TRAIN).is_file() and not (
        directory / "train.tsv"
    ).exists()


def _read_microsoft(
    task: GlueTask, directory: Path, report: Report
) -> tuple[GluePart, dict[str, GluePart]]:
    path = directory / MICROSOFT_TRAIN
    listed = [directory / name for name in DEV_IDS]
    ids_path = next((file for file in listed if file.is_file()), listed[0])
    dev_ids = {}
    for number, line in enumerate(read_lines(ids_path), start=1):
        ids = tuple(cell.strip() for cell in line.split("\t"))
        if len(ids) != 2 or ids in dev_ids:
            problem = "twice the same" if ids in dev_ids else f"{len(ids)}"
            raise InputError(
                f"{ids_path}:{number}: expected two ids, one pair a line, got "
                f"{problem}. Fetch GLUE's file again."
            )
        dev_ids[ids] = number
    train, valid = [], []
    for row in read_rows(path, task.layout, report):
        (valid if row.ids in dev_ids else train).append(row)
    unknown = dev_ids.keys() - {row.ids for row in valid}
    if unknown:
        first = min(unknown, key=dev_ids.__getitem__)
        raise InputError(
            f"{ids_path}:{dev_ids[first]}: expected ids of {path.name}, got "
            f"{', '.join(first)}, which are not in it. Fetch both files again."
        )
    return (
        _labeled(task, path, train, report),
        {"dev": _labeled(task, path, valid, report)},
    )


def _read_part(task: GlueTask, path: Path, report: Report) -> GluePart:
    rows = read_rows(path, task.layout, report)
    return _labeled(task, path, rows, report)


def _read_test(task: GlueTask, path: Path, report: Report) -> GluePart:
    rows = list(read_rows(path, task.test_layout, report))
    return _part(task, path, rows, None)


def _labeled(
    task: GlueTask, path: Path, rows: Iterable[Row], report: Report
) -> GluePart:
    kept, labels = [], []
    for row in rows:
        if task.no_label is not None and row.label == task.no_label:
            report.skip(row.where, f"label {row.label!r}")
            continue
        kept.append(row)
        labels.append(_label(task, row))
    return _part(task, path, kept, tuple(labels))


def _label(task: GlueTask, row: Row) -> str | float:
    if task.range is None:
        if row.label not in task.labels:
            raise InputError(
                f"{row.where}: expected a label out of "
                f"{', '.join(task.labels)}, got {row.label!r}. Correct it, or "
                f"check that this is the file of {task.folder}."
            )
        return task.labels[row.label]
    low, high = task.range
    try:
        score = float(row.label)
    except ValueError:
        score = math.nan
    # Not `score < low`, which lets "nan" pass.
    if not low <= score <= high:
        raise InputError(
            f"{row.where}: expected a score from {low:g} to {high:g}, got "
            f"{row.label!r}. Correct it."
        )
    return score


def _part(
    task: GlueTask,
    path: Path,
    rows: list[Row],
    labels: tuple[str, ...] | tuple[float, ...] | None,
) -> GluePart:
    if not rows:
        raise InputError(
            f"{path}: expected examples, got none. Fetch the file again."
        )
    return GluePart(
        first=tuple(row.first for row in rows),
        second=tuple(row.second for row in rows) if task.is_pair else None,
        labels=labels,
    )
