"""The library's backups, with errors reported in one line."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import keras

from rdrop_keras import callbacks
from reproduce.common.errors import InputError


class BackupAndRestore(callbacks.BackupAndRestore):
    """A backup that is kept after training, because `--resume` needs it."""

    def __init__(self, directory: Any, **kwargs: Any):
        super().__init__(directory, delete_checkpoint=False, **kwargs)

    def set_model(self, model: keras.Model) -> None:
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                super().set_model(model)
        except ValueError as error:
            raise InputError(str(error)) from error
        for warning in caught:
            print(f"warning: {warning.message}", file=sys.stderr)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        try:
            super().on_train_begin(logs)
        except ValueError as error:
            raise InputError(str(error)) from error
