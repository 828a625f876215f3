"""Checkpoints selected by the scores of the text that they generate."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.errors import damaged

INDEX = "index.json"


class Checkpoints(keras.callbacks.Callback):
    """Callback that scores generated text and keeps the best weights.

    It keeps the weights of the best epoch so far and of the last scored
    epochs. An index of scores and files is stored in the directory, so that a
    resumed run continues with it. The scores are added to the logs, with the
    prefix `val_`.

    Args:
        directory: The directory of the weights.
        evaluate: A function that generates from the validation data with the
            current weights and returns scores by name. Higher scores are
            better. The first score selects the best epoch.
        every: The interval, in epochs, between scored epochs. The first and
            the last epoch are always scored.
        keep: The number of last scored epochs whose weights are kept.
        patience: The number of scored epochs without improvement after which
            training stops. None disables early stopping.
    """

    def __init__(
        self,
        directory: Path,
        evaluate: Callable[[], dict[str, float]],
        every: int = 1,
        keep: int = 1,
        patience: int | None = None,
    ):
        super().__init__()
        self.directory = directory
        self.evaluate = evaluate
        self.every = every
        self.keep = keep
        self.patience = patience
        self.scored: list[dict[str, Any]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        index = self.directory / INDEX
        try:
            self.scored = runs.read_json(index) if index.exists() else []
            self.scored = [{**e, "epoch": int(e["epoch"])} for e in self.scored]
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(index, "the scores that a run writes") from error

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # A run killed between checkpoint and backup repeats that epoch.
        self.scored = [e for e in self.scored if e["epoch"] <= epoch]
        # Superseded weights are deleted only now: until the backup of an
        # epoch is written, a resumed run may restart before that epoch.
        wanted = {self._path(entry) for entry in self.last(self.keep)}
        if self.scored:
            wanted.add(self._path(self.best()))
        elif epoch:
            # The first epoch is always scored, so the index cannot be empty.
            raise damaged(self.directory / INDEX, f"scores of {epoch} epochs")
        for path in wanted:
            if not path.is_file():
                raise damaged(path, "the weights of a scored epoch")
        for path in self.directory.glob("*.weights.h5"):
            if path not in wanted:
                path.unlink()
        # A resumed run may already have stopped early.
        if self._has_stalled():
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        number = epoch + 1
        last = number == self.params["epochs"]
        if not (epoch == 0 or number % self.every == 0 or last):
            return
        scores = self.evaluate()
        if logs is not None:
            logs.update({f"val_{name}": x for name, x in scores.items()})
        entry = {"epoch": number, **scores}
        path = self._path(entry)
        # Rename at the end, so that no truncated checkpoint is left behind.
        partial = path.with_name("partial.weights.h5")
        self.model.save_weights(partial, overwrite=True)
        partial.replace(path)
        self.scored.append(entry)
        runs.write_json(self.directory / INDEX, self.scored)
        if self._has_stalled():
            self.model.stop_training = True

    def best(self) -> dict[str, Any]:
        """Returns number and scores of the best epoch, the first if tied."""
        first = next(name for name in self.scored[0] if name != "epoch")
        return max(self.scored, key=lambda entry: entry[first])

    def last(self, count: int) -> list[dict[str, Any]]:
        """Returns the numbers and scores of the last scored epochs."""
        return self.scored[-count:] if count else []

    def choose(self, average: int) -> list[int]:
        """Loads the mean of the last epochs, 0: the best, and returns them."""
        if not self.scored:
            raise damaged(self.directory / INDEX, "scores of the epochs")
        chosen = self.last(average) or [self.best()]
        self.load(chosen)
        return [entry["epoch"] for entry in chosen]

    def load(self, entries: Sequence[dict[str, Any]]) -> None:
        """Loads the mean of the weights of these kept epochs."""
        average_weights(self.model, [self._path(entry) for entry in entries])

    def _path(self, entry: dict[str, Any]) -> Path:
        return self.directory / f"epoch-{entry['epoch']}.weights.h5"

    def _has_stalled(self) -> bool:
        if self.patience is None or not self.scored:
            return False
        since = len(self.scored) - 1 - self.scored.index(self.best())
        return since >= self.patience


def average_weights(model: keras.Model, paths: Sequence[Path]) -> None:
    """Loads the mean of several weight files into a model.

    All floating point variables are averaged. The random state of dropout
    cannot be averaged and is taken from the last file.
    """
    totals: list[np.ndarray] = []
    for path in paths:
        try:
            model.load_weights(path)
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{path}: not the weights of this model ({error})."
            ) from error
        values = [np.asarray(v, "float64") for v in _averaged(model)]
        totals = (
            [total + value for total, value in zip(totals, values)]
            if totals
            else values
        )
    for variable, total in zip(_averaged(model), totals):
        variable.assign(total / len(paths))


def _averaged(model: keras.Model) -> list[keras.Variable]:
    return [
        variable
        for variable in model.weights
        if "float" in keras.backend.standardize_dtype(variable.dtype)
    ]
