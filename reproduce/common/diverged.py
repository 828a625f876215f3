"""The end of a run whose numbers are no numbers any more."""

from __future__ import annotations

import math
from typing import Any

import keras

from reproduce.common.errors import InputError


class StopDiverged(keras.callbacks.Callback):
    """Ends training at the first loss that is not finite.

    It raises, so that nothing is written of the epoch: Keras's
    `TerminateOnNaN` ends the epoch in the regular way, and the backup, the log
    and the best model then hold what came of it. Before the epoch is logged
    it also looks at the weights, which the last update may have spoilt
    without a loss to tell. Put it first in the list of callbacks.

    Raises:
        InputError: At the end of the update.
    """

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        # The mean over the epoch so far, which one such loss spoils for good.
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            self._stop("a finite training loss", str(loss))

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
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
