"""Names of the files of a run, and functions that read and write JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MARKER = "run.json"
METRICS = "metrics.json"
CURVES = "curves.png"
HISTORY = "history.csv"
MODEL = "model.keras"
SAVED_MODEL = "saved_model"
TENSORBOARD = "tensorboard"
BACKUP = "backup"
CHECKPOINTS = "checkpoints"


def write_json(path: Path, value: Any) -> None:
    """Writes an indented JSON file."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Rename at the end: a truncated file would pass for a finished run.
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Reads a file that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
