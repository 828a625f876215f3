"""The files of a run: their names, and JSON."""

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
    """Writes a JSON file for people to read."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # Through another name: a file cut short would read as a finished run.
    partial = path.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
