"""Backups from which an interrupted run goes on as if nothing had been."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras


class BackupAndRestore(keras.callbacks.BackupAndRestore):
    """Keras's callback, which also keeps the random state of dropout.

    Keras's weight files leave it out, so that a resumed run would begin again
    with the masks of the first epoch.

    Args:
        directory: Where to keep the backup. It stays until it is removed.
    """

    def __init__(self, directory: Path):
        super().__init__(str(directory), delete_checkpoint=False)
        self._seeds = directory / "seeds.json"

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        super().on_train_begin(logs)
        if self._seeds.exists():
            states = json.loads(self._seeds.read_text(encoding="utf-8"))
            for variable, state in zip(self._seed_variables(), states):
                variable.assign(state)

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        states = [
            keras.ops.convert_to_numpy(variable).tolist()
            for variable in self._seed_variables()
        ]
        self._seeds.parent.mkdir(parents=True, exist_ok=True)
        self._seeds.write_text(json.dumps(states), encoding="utf-8")
        super().on_epoch_end(epoch, logs)

    def _seed_variables(self) -> list[keras.Variable]:
        return [
            variable
            for variable in self.model.non_trainable_variables
            if variable.path.endswith("seed_generator_state")
        ]
