"""GLUE's own files: tab-separated, UTF-8, without quoting.

A task is a directory of files as gluebenchmark.com publishes them: `train.tsv`,
`dev.tsv` (MNLI: `dev_matched.tsv`, `dev_mismatched.tsv`) and, optionally, the
test files, whose labels are not public. MRPC is also read as Microsoft
publishes it: `msr_paraphrase_train.txt`, with GLUE's `dev_ids.tsv` for the
validation part.

Malformed lines that the published files are known to have are skipped and
counted. All other faults are errors that name file and line.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.glue_files import Report
from reproduce.data.glue_files import Row
from reproduce.data.glue_files import read_lines
from reproduce.data.glue_files import read_rows
from reproduce.data.glue_tasks import GLUE_TASKS
from reproduce.data.glue_tasks import Columns
from reproduce.data.glue_tasks import GlueTask
from reproduce.data.texts import Dataset
from reproduce.data.texts import Part

MICROSOFT_TRAIN = "msr_paraphrase_train.txt"
MICROSOFT_TEST = "msr_paraphrase_test.txt"
# The names of the same file in GLUE's script and in its URL.
DEV_IDS = ("dev_ids.tsv", "mrpc_dev_ids.tsv")
# The names that GLUE's server uses for predictions of several test parts.
SERVER = {"matched": "MNLI-m", "mismatched": "MNLI-mm"}


@dataclass(frozen=True)
class GlueDataset(Dataset):
    """The parts of a task."""

    task: GlueTask = field(kw_only=True)
    report: Report = field(kw_only=True)


def load_glue(name: str, directory: Path) -> GlueDataset:
    """Reads a task of `GLUE_TASKS`, from the directory of its files or above.

    Errors name file and line.
    """
    if name not in GLUE_TASKS:
        raise InputError(
            f"Expected a GLUE task out of {', '.join(GLUE_TASKS)}, got {name}."
        )
    task, report = GLUE_TASKS[name], Report()
    if (directory / task.folder).is_dir():
        directory /= task.folder
    if not directory.is_dir():
        raise InputError(
            f"{directory}: not a directory. Expected the one of GLUE's "
            f"{task.folder}."
        )

    def read(file: str, columns: Columns) -> Part:
        path = directory / file
        return _part(task, path, list(read_rows(task, path, columns, report)))

    test_files = task.files("test")
    # GLUE's script leaves Microsoft's files next to those it writes.
    if (
        name == "mrpc"
        and (directory / MICROSOFT_TRAIN).is_file()
        and not (directory / "train.tsv").exists()
    ):
        train, dev = _read_microsoft(task, directory, report)
        valid = {"dev": dev}
        test_files = {"test": MICROSOFT_TEST}
    else:
        files = task.files("dev")
        wanted = ("train.tsv", *files.values())
        missing = [x for x in wanted if not (directory / x).is_file()]
        if missing:
            raise InputError(
                f"{directory}: no {', '.join(missing)} in it. Expected the "
                f"files of GLUE's {task.folder}."
            )
        train = read("train.tsv", task.columns)
        valid = {part: read(x, task.columns) for part, x in files.items()}
    columns = task.test_columns or task.columns._replace(label=None)
    test = {
        part: read(file, columns)
        for part, file in test_files.items()
        if (directory / file).exists()
    }
    return GlueDataset(
        f"GLUE {task.folder}",
        task.classes,
        train,
        valid,
        test,
        task.metrics,
        task.headline,
        {"skipped": report.skipped},
        task=task,
        report=report,
    )


def write_predictions(
    task: GlueTask, part: str, outputs: np.ndarray, directory: Path
) -> None:
    """Writes a test part's predictions in the format of GLUE's server.

    The outputs are logits of shape `(examples, classes)`, or scores of shape
    `(examples, 1)`, which are clipped to the range of the labels.
    """
    if task.range is not None:
        scores = np.clip(outputs[:, 0], *task.range)
        predictions = [f"{score:.3f}" for score in scores]
    else:
        labels = list(task.labels)
        predictions = [labels[index] for index in outputs.argmax(axis=-1)]
    lines = [f"{number}\t{text}\n" for number, text in enumerate(predictions)]
    directory.mkdir(exist_ok=True)
    path = directory / f"{SERVER.get(part, task.folder)}.tsv"
    path.write_text("index\tprediction\n" + "".join(lines), encoding="utf-8")


def _read_microsoft(
    task: GlueTask, directory: Path, report: Report
) -> tuple[Part, Part]:
    path = directory / MICROSOFT_TRAIN
    listed = [directory / name for name in DEV_IDS]
    ids_path = next((file for file in listed if file.is_file()), listed[0])
    dev_ids: dict[tuple[str, ...], int] = {}
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
    for row in read_rows(task, path, task.columns, report):
        (valid if row.ids in dev_ids else train).append(row)
    unknown = dev_ids.keys() - {row.ids for row in valid}
    if unknown:
        first = min(unknown, key=dev_ids.__getitem__)
        raise InputError(
            f"{ids_path}:{dev_ids[first]}: expected ids of {path.name}, got "
            f"{', '.join(first)}, which are not in it. Fetch both files again."
        )
    return _part(task, path, train), _part(task, path, valid)


def _part(task: GlueTask, path: Path, rows: list[Row]) -> Part:
    if not rows:
        raise InputError(
            f"{path}: expected examples, got none. Fetch the file again."
        )
    labels = None
    if rows[0].label is not None:
        labels = tuple(_label(task, row) for row in rows)
    return Part(
        tuple(row.first for row in rows),
        tuple(row.second or "" for row in rows) if task.is_pair else None,
        labels,
    )


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
        score = float(row.label or "")
    except ValueError:
        score = float("nan")
    # This form also refuses NaN, for which `score < low` is false.
    if not low <= score <= high:
        raise InputError(
            f"{row.where}: expected a score from {low:g} to {high:g}, got "
            f"{row.label!r}. Correct it."
        )
    return score
