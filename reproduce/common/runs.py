"""The directory that a run writes into.

`run.json` marks it as made by an example, and remembers the settings, so that
nobody else's files are ever replaced and only the same run is resumed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError

MARKER = "run.json"
METRICS = "metrics.json"
CURVES = "curves.png"
HISTORY = "history.csv"
MODEL = "model.keras"
SAVED_MODEL = "saved_model"
TENSORBOARD = "tensorboard"
BACKUP = "backup"
CHECKPOINTS = "checkpoints"


def claim(
    directory: Path,
    program: str,
    settings: dict[str, Any],
    resume: bool = False,
) -> None:
    """Makes a directory ready for a run, or refuses it.

    An empty or missing directory is taken. One that the same program made is
    continued with `resume`, and otherwise started over: what earlier runs
    wrote there is removed, anything else is left. Every other directory is
    refused.

    Args:
        directory: Where the run is to write.
        program: The name of the example.
        settings: What the run depends on, as JSON values.
        resume: Whether to continue what is there. The settings must be the
            same; without an earlier run, a new one begins.

    Raises:
        InputError: If the directory is not ours, or holds another run.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--output {directory}: not a directory.")
    marker = directory / MARKER
    if marker.exists():
        found = _read_marker(marker)
        if found.get("program") != program:
            raise InputError(
                f"--output {directory}: made by {found.get('program')}, not "
                f"by {program}. Name another directory."
            )
        if resume:
            _check_same(directory, found.get("settings", {}), settings)
            return
        _remove_earlier(directory)
    elif directory.exists() and any(directory.iterdir()):
        raise InputError(
            f"--output {directory}: not empty, and not made by {program}. "
            "Name a new or empty directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    write_json(marker, {"program": program, "settings": settings})


def is_finished(directory: Path) -> bool:
    """Whether a run has written its metrics, which it does last."""
    return (directory / METRICS).exists()


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


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        found = read_json(marker)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError(f"{marker}: not a run of an example. Left as it is.")
    return found


def _check_same(
    directory: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    # Through JSON, in which tuples are lists, as the old settings were.
    now = json.loads(json.dumps(now))
    differing = sorted(
        name
        for name in before.keys() | now.keys()
        if before.get(name) != now.get(name)
    )
    if differing:
        changes = ", ".join(
            f"{name} was {before.get(name)}, now {now.get(name)}"
            for name in differing
        )
        raise InputError(
            f"--resume {directory}: begun with other settings ({changes}). "
            "Give the same flags, or another --output."
        )


def _remove_earlier(directory: Path) -> None:
    for name in (METRICS, CURVES, HISTORY, MODEL):
        (directory / name).unlink(missing_ok=True)
    for name in (SAVED_MODEL, TENSORBOARD, BACKUP, CHECKPOINTS):
        shutil.rmtree(directory / name, ignore_errors=True)
