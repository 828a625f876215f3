"""Callbacks of every run: its backup, and an end if the loss diverges."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import keras

from rdrop_keras import callbacks
from reproduce.common.errors import InputError


class BackupAndRestore(callbacks.BackupAndRestore):
    """A backup that `--resume` needs: it is kept after training.

    Errors and warnings of a damaged backup are printed in one line.
    """

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

    def on_train_begin(self, logs: Any = None) -> None:
        try:
            super().on_train_begin(logs)
        except ValueError as error:
            raise InputError(str(error)) from error


class StopDiverged(keras.callbacks.Callback):
    """Ends training at the first loss that is not finite.

    It raises an error, so that nothing of the epoch is written. Keras's
    `TerminateOnNaN` ends the epoch normally, and the diverged weights then
    reach the backup, the log and the best model. Before the epoch is logged,
    the callback also checks the weights, because no loss is computed after the
    last update. Put it first in the list of callbacks.
    """

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # A running mean over the epoch, which stays NaN after one NaN loss.
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop("a finite training loss", str(loss))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for variable in self.model.trainable_variables:
            if not bool(keras.ops.all(keras.ops.isfinite(variable))):
                self._stop("finite weights", f"nan or inf in {variable.path}")

    def _stop(self, expected: str, received: str) -> None:
        update = int(
            keras.ops.convert_to_numpy(self.model.optimizer.iterations)
        )
        raise InputError(
            f"Expected {expected}. Received: {received}, after update "
            f"{update}. Nothing was written of this epoch. Start over with a "
            "lower --learning-rate or --alpha, or larger batches."
        )
