"""Backups from which an interrupted run goes on as if nothing had been."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reproduce.common.errors import InputError

STATE = "state.json"
ARRAYS = "callbacks.npz"
# What a backup is called while it is written: no kill leaves half of one
# under the name of a whole one.
PARTIAL = "partial"
# One to go on from, and one in case that one goes bad.
KEPT_BACKUPS = 2
# What Keras's own callbacks remember from one epoch to the next.
REMEMBERED = ("best", "best_epoch", "wait", "stopped_epoch", "cooldown_counter")

# By name, what returns a JSON value and what takes it back.
Extra = dict[str, tuple[Callable[[], Any], Callable[[Any], None]]]


class BackupAndRestore(keras.callbacks.Callback):
    """Keras's backup of every epoch, made whole, checked and complete.

    The last two epochs are kept, each in a directory that gets its name when
    all of it is on the disk, with a checksum of every file. A run killed at
    any moment goes on after an epoch that is there in full; of a backup that
    was damaged later the file is named, and the one before is used.

    Beside the weights, the optimizer's state and the epoch, which Keras's
    `BackupAndRestore` writes and reads here too, it keeps what that leaves
    out: the random state of the model's dropout layers, without which a
    resumed run would begin again with the masks of the first epoch; the
    lengths of logs; and what other callbacks remember, if told to. Without
    that, `EarlyStopping` forgets after a resume how long it has waited, and
    `ModelCheckpoint` how good the best model was, which it then replaces by a
    worse one. Not kept are random generators outside of the model, and the
    `History` that `fit` returns, which begins with the first epoch after the
    resume.

    Put it last in the list of callbacks: what the others do at the end of an
    epoch is then done when the epoch counts as done, and what they reset when
    training begins is not lost.

    Args:
        directory: Where to keep the backups. They stay until they are removed.
        logs: Files that other callbacks append to. On resume they are cut
            back to their length when the backup was written, so that no epoch
            is in them twice.
        callbacks: Callbacks whose memory to keep: `EarlyStopping`,
            `ReduceLROnPlateau`, `ModelCheckpoint` that saves by the epoch, and
            others with attributes of the same names.
        extra: Anything else to keep: by name a function that returns a JSON
            value, and one that takes it back when training resumes.

    Raises:
        InputError: If there are backups, but none that is sound, or one that
            is of another model.
    """

    def __init__(
        self,
        directory: Path,
        *,
        logs: Sequence[Path] = (),
        callbacks: Sequence[keras.callbacks.Callback] = (),
        extra: Extra | None = None,
    ):
        super().__init__()
        self._directory = Path(directory)
        self._logs = list(logs)
        self._callbacks = list(callbacks)
        self._extra = extra or {}
        self._chosen: Path | None = None
        self._state: dict[str, Any] = {}

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        # Before training begins: `CSVLogger` then looks whether its file is
        # empty, to know whether to write a header.
        self._choose()
        lengths = self._state.get("logs", [0] * len(self._logs))
        for log, length in zip(self._logs, lengths):
            if log.exists() and log.stat().st_size > length:
                os.truncate(log, length)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._chosen is None:
            return
        try:
            # Keras's own callback is what knows how to start at an epoch.
            self._keras_backup(self._chosen).on_train_begin()
            self._restore()
        except (ValueError, KeyError) as error:
            raise InputError(
                f"{self._chosen}: a backup of another model "
                f"({str(error).strip().splitlines()[0]}). Start over without "
                "--resume."
            ) from error

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        partial = self._directory / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        stopped = any(
            getattr(callback, "stopped_epoch", 0)
            for callback in self._callbacks
        )
        # A run that was stopped early has no epoch left to go on with.
        done = self.params["epochs"] - 1 if stopped else epoch
        self._keras_backup(partial).on_epoch_end(done)
        self._save(partial)
        logs_here = [log for log in self._logs if log.exists()]
        for path in [*logs_here, *partial.iterdir(), partial]:
            _flush_to_disk(path)
        whole = self._directory / f"epoch-{epoch + 1}"
        # A damaged one, if any: training went on from the one before it.
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        _flush_to_disk(self._directory)
        for old in self._backups()[KEPT_BACKUPS:]:
            shutil.rmtree(old)

    def _keras_backup(self, path: Path) -> keras.callbacks.BackupAndRestore:
        backup = keras.callbacks.BackupAndRestore(
            str(path), delete_checkpoint=False
        )
        backup.set_model(self.model)
        return backup

    def _backups(self) -> list[Path]:
        """Returns all backups, the newest first."""
        if not self._directory.is_dir():
            return []
        found = {
            int(match[1]): path
            for path in self._directory.iterdir()
            if (match := re.fullmatch(r"epoch-(\d+)", path.name))
        }
        return [found[epoch] for epoch in sorted(found, reverse=True)]

    def _choose(self) -> None:
        """Finds the newest sound backup, and says which ones are not."""
        self._chosen, self._state = None, {}
        faults = []
        for path in self._backups():
            try:
                self._state = _checked_state(path)
            except InputError as error:
                faults.append(str(error))
                continue
            self._chosen = path
            for fault in faults:
                print(
                    f"warning: {fault}. Going on from {path} instead.",
                    file=sys.stderr,
                )
            return
        if faults:
            raise InputError(
                f"No sound backup is left: {'; '.join(faults)}. Start over "
                "without --resume."
            )

    def _save(self, path: Path) -> None:
        remembered, arrays = [], {}
        for place, callback in enumerate(self._callbacks):
            values = {
                name: _plain_number(getattr(callback, name))
                for name in REMEMBERED
                if hasattr(callback, name)
            }
            weights = getattr(callback, "best_weights", None)
            if weights is not None:
                values["best_weights"] = len(weights)
                arrays |= {f"{place}-{i}": w for i, w in enumerate(weights)}
            remembered.append(values)
        if arrays:
            np.savez(path / ARRAYS, **arrays)
        state = {
            "seeds": [
                keras.ops.convert_to_numpy(variable).tolist()
                for variable in self._seed_variables()
            ],
            "logs": [_length(log) if log.exists() else 0 for log in self._logs],
            "callbacks": remembered,
            "extra": {name: read() for name, (read, _) in self._extra.items()},
            "files": {
                file.name: [_length(file), _sha256(file)]
                for file in sorted(path.iterdir())
            },
        }
        # As it will be read: JSON turns tuples and keys into other things.
        state = json.loads(json.dumps(state))
        text = json.dumps([_digest(state), state])
        (path / STATE).write_text(text, encoding="utf-8")

    def _restore(self) -> None:
        state, variables = self._state, self._seed_variables()
        for what, now, before in (
            ("random states", variables, state["seeds"]),
            ("callbacks", self._callbacks, state["callbacks"]),
        ):
            if len(now) != len(before):
                raise ValueError(
                    f"Expected {len(now)} {what}, got {len(before)}"
                )
        for variable, value in zip(variables, state["seeds"]):
            variable.assign(value)
        for place, callback in enumerate(self._callbacks):
            values = dict(state["callbacks"][place])
            count = values.pop("best_weights", None)
            if count is not None:
                with np.load(self._chosen / ARRAYS) as arrays:
                    callback.best_weights = [
                        arrays[f"{place}-{i}"] for i in range(count)
                    ]
            for name, value in values.items():
                setattr(callback, name, value)
        for name, (_, write) in self._extra.items():
            write(state["extra"][name])

    def _seed_variables(self) -> list[keras.Variable]:
        return [
            variable
            for variable in self.model.non_trainable_variables
            if variable.path.endswith("seed_generator_state")
        ]


def _checked_state(backup: Path) -> dict[str, Any]:
    """Reads the state of a backup, after checking all of its files."""
    path = backup / STATE
    try:
        digest, state = json.loads(path.read_text(encoding="utf-8"))
        # Its own checksum: also a changed random state would go unnoticed.
        if digest != _digest(state):
            raise ValueError
        for name, (length, sha256) in state["files"].items():
            path = backup / name
            if _length(path) != length:
                raise InputError(
                    f"{path}: expected {length} bytes, got {_length(path)}"
                )
            if _sha256(path) != sha256:
                raise InputError(f"{path}: not the bytes that were written")
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not the JSON that was written") from error
    return state


def _digest(state: Any) -> str:
    text = json.dumps(state, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _length(path: Path) -> int:
    return path.stat().st_size


def _plain_number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _flush_to_disk(path: Path) -> None:
    # Windows flushes no directories.
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
