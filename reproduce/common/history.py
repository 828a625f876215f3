"""The history of a run, which survives an interruption."""

from __future__ import annotations

import csv
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.common.errors import damaged

Curve = list[tuple[int, float]]


def read_history(path: Path) -> dict[str, Curve]:
    """Reads the file that `keras.callbacks.CSVLogger` wrote.

    Each quantity is a list of (number of epochs trained, value).
    """
    try:
        return _read(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise damaged(path, "the table that a run writes") from error


def _read(path: Path) -> dict[str, Curve]:
    epochs = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # A run killed between log and backup logs that epoch twice.
            epochs[int(row.pop("epoch"))] = row
    curves: dict[str, Curve] = {}
    for epoch, row in sorted(epochs.items()):
        for name, value in row.items():
            if value not in ("", "NA"):
                curves.setdefault(name, []).append((epoch + 1, float(value)))
    return curves
