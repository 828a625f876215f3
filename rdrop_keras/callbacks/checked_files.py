"""Directories of files with checksums, which reveal damage."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

_STATE = "state.json"


def write_checked(directory: Path, state: dict[str, Any]) -> None:
    """Writes a state and the checksums of all files to their directory.

    Args:
        directory: The directory of the files.
        state: A dict of JSON values.
    """
    files = {
        file.name: [length(file), _sha256(file)]
        for file in sorted(directory.iterdir())
    }
    # The digest is that of the state as it is read: JSON changes tuples to
    # lists, and keys to strings.
    state = json.loads(json.dumps({**state, "files": files}))
    text = json.dumps([_digest(state), state])
    (directory / _STATE).write_text(text, encoding="utf-8")


def read_checked(directory: Path) -> dict[str, Any]:
    """Returns the state that `write_checked` wrote.

    Raises:
        ValueError: If a file is missing or has been changed.
    """
    path = directory / _STATE
    try:
        digest, state = json.loads(path.read_text(encoding="utf-8"))
        # Without a checksum a change of the random state would go unnoticed.
        if digest != _digest(state):
            raise TypeError
        files = list(state["files"].items())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{path}: not the JSON that was written") from error
    for name, (expected, sha256) in files:
        path = directory / name
        try:
            if length(path) != expected:
                raise ValueError(
                    f"{path}: expected {expected} bytes, got {length(path)}"
                )
            if _sha256(path) != sha256:
                raise ValueError(f"{path}: not the bytes that were written")
        except OSError as error:
            raise ValueError(f"{path}: {error.strerror}") from error
    return state


def length(path: Path) -> int:
    """Returns the length of a file in bytes."""
    return path.stat().st_size


def flush_to_disk(path: Path) -> None:
    """Waits until a file or directory is on the disk."""
    # Windows flushes no directories.
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(state: Any) -> str:
    text = json.dumps(state, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
