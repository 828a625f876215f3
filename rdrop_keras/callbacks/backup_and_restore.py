"""A callback that backs up training so that it resumes exactly."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.callbacks.checked_files import flush_to_disk
from rdrop_keras.callbacks.checked_files import length
from rdrop_keras.callbacks.checked_files import read_checked
from rdrop_keras.callbacks.checked_files import write_checked
from rdrop_keras.callbacks.memory import recall
from rdrop_keras.callbacks.memory import remember
from rdrop_keras.training import trainer

_PARTIAL = "partial"
_NAME = re.compile(r"epoch-(\d+)(?:-batch-(\d+))?")


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """Backs up training so that an interrupted run resumes exactly.

    This is a drop-in replacement for `keras.callbacks.BackupAndRestore`. Like
    Keras's callback it saves the weights, the optimizer and the epoch; it also
    saves the random state of the model's dropout layers. Without that state, a
    resumed run starts again with the masks of the first epoch, and its final
    weights differ from those of an uninterrupted run.

    Each backup is a directory with a checksum for every file. The directory
    gets its name when all files are on the disk, so a run that is killed at
    any moment resumes after an epoch that was saved completely. If a backup is
    damaged later, a warning names the file, and training resumes from the
    backup before it.

    Place this callback last in the list: the other callbacks then finish an
    epoch before it is saved, and state that they reset when training begins is
    restored afterwards.

    Of several processes the first writes. All read the same directory. On
    PyTorch the random state of the first alone is saved, so that a run of
    several processes does not resume exactly.

    Random generators outside of the model, such as those that shuffle data,
    are not saved. If the data comes in another order after a resume, the final
    weights differ. The `History` of `fit` begins with the first epoch after
    the resume.

    Args:
        backup_dir: The directory of the backups, used for nothing else.
        save_freq: `"epoch"`, or an integer to save after every so many batches
            as well. A run that resumes within an epoch repeats the whole
            epoch, as with Keras's callback, and is not exact.
        double_checkpoint: Whether to keep the backup before the latest one,
            in case the latest is damaged. Unlike in Keras's callback, this is
            the default.
        delete_checkpoint: Whether to delete the backups when `fit` returns.
        logs: Paths of files that other callbacks append to, such as
            `CSVLogger(..., append=True)`. On resume they are cut back to their
            length at the backup, so that they list no epoch twice.
        callbacks: Callbacks whose state to save: `EarlyStopping`,
            `ReduceLROnPlateau`, `ModelCheckpoint`, and others that use the
            same attributes. On resume Keras's callbacks would forget how long
            they have waited and what the best value was.
        extra: Other state to save: a dict from names to pairs of a function
            that returns a JSON value and a function that restores it.

    Raises:
        ValueError: If no undamaged backup is left, or the backup is that of
            another model.

    Example:

    ```python
    stopping = keras.callbacks.EarlyStopping(patience=3)
    backup = rdrop_keras.callbacks.BackupAndRestore(
        "backup", callbacks=[stopping]
    )
    model.fit(x, y, epochs=100, callbacks=[stopping, backup])
    ```
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        save_freq: str | int = "epoch",
        double_checkpoint: bool = True,
        delete_checkpoint: bool = True,
        *,
        logs: Sequence[str | os.PathLike[str]] = (),
        callbacks: Sequence[keras.callbacks.Callback] = (),
        extra: Mapping[str, tuple[Callable[[], Any], Callable[[Any], None]]]
        | None = None,
    ):
        super().__init__(
            os.fspath(backup_dir),
            save_freq=save_freq,
            double_checkpoint=double_checkpoint,
            delete_checkpoint=delete_checkpoint,
        )
        self._directory = Path(backup_dir)
        self._logs = [Path(log) for log in logs]
        self._callbacks = list(callbacks)
        self._extra = dict(extra or {})
        self._chosen: Path | None = None
        self._state: dict[str, Any] = {}
        self._epoch = 0
        self._saved_batches = 0

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        # Before training begins: `CSVLogger` writes a header at that time if
        # its file is empty.
        self._choose()
        lengths = self._state.get("logs", [0] * len(self._logs))
        for log, before in zip(self._logs, lengths):
            if log.exists() and length(log) > before:
                os.truncate(log, before)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if self._chosen is None:
            return
        if not self.model.built:
            raise ValueError(
                f"Expected a built model, to restore {self._chosen}. Call the "
                "model on a batch before `fit`."
            )
        try:
            self._keras_backup(self._chosen).on_train_begin()
            self._restore(self._chosen)
        except (ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"{self._chosen}: a backup of another model ({reason}). "
                f"Remove {self._directory} to start over."
            ) from error

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._epoch = epoch
        self._saved_batches = 0

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        done = batch + 1
        # `False` saves nothing within epochs, as for Keras's callback.
        if self.save_freq == "epoch" or not self.save_freq:
            return
        if done - self._saved_batches >= self.save_freq:
            self._saved_batches = done
            self._back_up(self._epoch, done)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        stopped = any(getattr(c, "stopped_epoch", 0) for c in self._callbacks)
        # A run that was stopped early has no epoch left to resume with.
        done = self.params["epochs"] if stopped else epoch + 1
        self._back_up(epoch + 1, 0, done)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.delete_checkpoint and trainer().writes(self.model):
            shutil.rmtree(self._directory, ignore_errors=True)

    def _back_up(self, epoch: int, batch: int, done: int | None = None) -> None:
        """Writes one backup.

        Args:
            epoch: The number of finished epochs.
            batch: The number of finished batches of the next epoch.
            done: The epoch to resume with, if it is not `epoch`.
        """
        if not trainer().writes(self.model):
            return
        partial = self._directory / _PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        # Keras takes the index of the epoch that ends.
        done = epoch if done is None else done
        with _keras.alone():
            self._keras_backup(partial).on_epoch_end(done - 1)
        write_checked(partial, self._collect(partial))
        logs_here = [log for log in self._logs if log.exists()]
        for path in [*logs_here, *partial.iterdir(), partial]:
            flush_to_disk(path)
        name = f"epoch-{epoch}" + (f"-batch-{batch}" if batch else "")
        whole = self._directory / name
        # A backup of this name was damaged, and training resumed before it.
        shutil.rmtree(whole, ignore_errors=True)
        partial.rename(whole)
        flush_to_disk(self._directory)
        for old in self._backups()[2 if self.double_checkpoint else 1 :]:
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
            (int(match[1]), int(match[2] or 0)): path
            for path in self._directory.iterdir()
            if (match := _NAME.fullmatch(path.name))
        }
        return [found[place] for place in sorted(found, reverse=True)]

    def _choose(self) -> None:
        """Finds the newest undamaged backup, and reports the damaged ones."""
        self._chosen, self._state = None, {}
        faults = []
        for path in self._backups():
            try:
                self._state = read_checked(path)
            except ValueError as error:
                faults.append(str(error))
                continue
            self._chosen = path
            for fault in faults:
                warnings.warn(f"{fault}. Resuming from {path} instead.")
            return
        if faults:
            raise ValueError(
                f"No undamaged backup is left: {'; '.join(faults)}. Remove "
                f"{self._directory} to start over."
            )

    def _collect(self, path: Path) -> dict[str, Any]:
        """Returns the state that Keras does not save, as JSON values.

        Arrays are written to files in `path`.
        """
        return {
            "seeds": [
                keras.ops.convert_to_numpy(variable).tolist()
                for variable in self._seed_variables()
            ],
            "global_random": [s.hex() for s in _keras.global_random_state()],
            "logs": [length(log) if log.exists() else 0 for log in self._logs],
            "callbacks": remember(self._callbacks, path),
            "extra": {name: read() for name, (read, _) in self._extra.items()},
        }

    def _restore(self, path: Path) -> None:
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
        # With the state of the first, other processes would draw its masks.
        mine = state["global_random"] if trainer().writes(self.model) else []
        _keras.set_global_random_state([*map(bytes.fromhex, mine)])
        recall(self._callbacks, state["callbacks"], path)
        for name, (_, write) in self._extra.items():
            write(state["extra"][name])

    def _seed_variables(self) -> list[keras.Variable]:
        return [v for v in self.model.variables if _keras.is_seed_state(v)]
