"""The output directory of a run: marked, locked and checked.

The file `run.json` marks the directory as made by this program and stores the
settings, so that no other files are replaced and only the same run is resumed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import filelock

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.errors import damaged
from reproduce.common.history import read_history

LOCK = "run.lock"
FILES = (runs.METRICS, runs.CURVES, runs.HISTORY, runs.MODEL)
# Files and folders that only some tasks write.
PICTURES = ("reliability.png", "predictions.png", "test_logits.npz")
FOLDERS = (
    "predictions",
    runs.SAVED_MODEL,
    runs.TENSORBOARD,
    runs.BACKUP,
    runs.CHECKPOINTS,
)


@contextmanager
def claimed(
    directory: Path,
    program: str,
    settings: dict[str, Any],
    resume: bool = False,
    overwrite: bool = False,
) -> Iterator[None]:
    """Prepares a directory for a run and locks out other processes.

    A new or empty directory is accepted. A directory that holds a run of the
    same program is continued with `resume`, if its settings are the same, and
    cleared with `overwrite`, which removes only files that runs write. Every
    other directory is refused.
    """
    if resume and overwrite:
        raise InputError("Give --resume or --overwrite, not both.")
    _check_owner(directory, program)
    with _locked(directory):
        marker = directory / runs.MARKER
        if not _has_results(directory):
            runs.write_json(marker, {"program": program, "settings": settings})
        elif resume:
            _check_same(directory, _read_marker(marker)["settings"], settings)
            _check_resumable(directory)
        elif overwrite:
            _clear(directory)
            runs.write_json(marker, {"program": program, "settings": settings})
        else:
            state = "a finished" if is_finished(directory) else "an interrupted"
            raise InputError(
                f"--output {directory}: holds {state} run. Give --resume to go "
                "on with it, --overwrite to start over, or another --output."
            )
        yield


def is_finished(directory: Path) -> bool:
    """Returns whether a run has written its metrics, its last file."""
    return (directory / runs.METRICS).exists()


def read_metrics(directory: Path) -> dict[str, Any]:
    """Reads the metrics of a finished run."""
    path = directory / runs.METRICS
    try:
        found = runs.read_json(path)
        if not isinstance(found, dict) or "settings" not in found:
            raise ValueError
    except FileNotFoundError as error:
        raise InputError(
            f"{directory}: no {runs.METRICS}. Expected the output of a "
            "finished training."
        ) from error
    except (OSError, ValueError) as error:
        raise damaged(path, "the JSON of a finished run") from error
    return found


def last_backup(directory: Path) -> int:
    """Returns the number of epochs in the newest backup, 0 without any."""
    backup = directory / runs.BACKUP
    epochs = [
        int(match[1])
        for path in (backup.iterdir() if backup.exists() else ())
        if (match := re.fullmatch(r"epoch-(\d+)", path.name))
    ]
    return max(epochs, default=0)


def remove_leftovers(directory: Path) -> None:
    """Removes the files that only an unfinished run needs."""
    for name in (runs.BACKUP, runs.CHECKPOINTS):
        shutil.rmtree(directory / name, ignore_errors=True)


def _locked(directory: Path) -> filelock.AcquireReturnProxy:
    """Locks a directory, which is made if it is new; `with` unlocks it.

    `with` takes what `acquire` returned: a lock entered by `with` after
    `acquire` is acquired twice and released once.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(directory / LOCK).acquire(timeout=0)
    except filelock.Timeout as error:
        raise InputError(
            f"--output {directory}: another process is writing there. Wait for "
            "it, stop it, or name another directory."
        ) from error
    except OSError as error:
        raise InputError(
            f"--output {directory}: cannot be written ({error.strerror})."
        ) from error


def _check_owner(directory: Path, program: str) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"--output {directory}: not a directory.")
    marker = directory / runs.MARKER
    if marker.exists():
        found = _read_marker(marker)["program"]
        if found != program:
            raise InputError(
                f"--output {directory}: made by {found}, not by {program}. "
                "Name another directory."
            )
    elif directory.exists() and {p.name for p in directory.iterdir()} - {LOCK}:
        raise InputError(
            f"--output {directory}: not empty, and without the {runs.MARKER} "
            f"of a run of {program}. Name a new or empty directory."
        )


def _read_marker(marker: Path) -> dict[str, Any]:
    try:
        found = runs.read_json(marker)
        kinds = (type(found["program"]), type(found["settings"]))
    except (OSError, ValueError, KeyError, TypeError):
        kinds = ()
    if kinds != (str, dict):
        raise InputError(
            f"{marker}: not what a run of this program writes. Left as it is: "
            "restore the file, or name another --output."
        )
    return found


def _has_results(directory: Path) -> bool:
    names = {path.name for path in directory.iterdir()}
    # A comparison keeps its runs in subfolders.
    return bool(names & {*FILES, *FOLDERS}) or any(
        directory.glob(f"*/{runs.MARKER}")
    )


def _check_same(
    directory: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    # The old settings were read from JSON, which turns tuples into lists.
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


def _check_resumable(directory: Path) -> None:
    """Raises `InputError` if resuming would silently lose epochs."""
    for name in FOLDERS:
        path = directory / name
        if path.exists() and not path.is_dir():
            raise damaged(path, "a folder", "a file")
    if is_finished(directory):
        read_metrics(directory)
        return
    epochs = last_backup(directory)
    path = directory / runs.HISTORY
    curves = read_history(path) if path.exists() else {}
    logged = {epoch for epoch, _ in curves.get("loss", [])}
    missing = set(range(1, epochs + 1)) - logged
    if missing:
        wanted = f"the {epochs} epochs of the backup"
        raise damaged(path, wanted, str(len(logged)))
    # A run that is killed before its first backup has logged one epoch.
    if len(logged) > 1 and not epochs:
        wanted = f"a backup of {max(logged)} epochs"
        raise damaged(directory / runs.BACKUP, wanted, "none")


def _clear(directory: Path) -> None:
    for name in (*FILES, *PICTURES, *FOLDERS):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
