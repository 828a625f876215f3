"""The epochs of a run, which outlive an interruption."""

from __future__ import annotations

import csv
from pathlib import Path

Curve = list[tuple[int, float]]


def read_history(path: Path) -> dict[str, Curve]:
    """Reads what `keras.callbacks.CSVLogger` wrote.

    Args:
        path: The file, with one row per epoch.

    Returns:
        For each quantity its values, each with the number of epochs trained.
    """
    epochs = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            # A run cut off between log and backup trains that epoch again.
            epochs[int(row.pop("epoch"))] = row
    curves: dict[str, Curve] = {}
    for epoch, row in sorted(epochs.items()):
        for name, value in row.items():
            if value not in ("", "NA"):
                curves.setdefault(name, []).append((epoch + 1, float(value)))
    return curves
