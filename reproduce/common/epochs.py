"""Which epoch training is in."""

from __future__ import annotations

from typing import Any

import keras


class EpochNumber(keras.callbacks.Callback):
    """Knows the number of the epoch that runs, also in a resumed run.

    Called, it returns it. The optimizer's iterations, which would do for most
    runs, count updates and not batches where gradients are accumulated.
    """

    def __init__(self):
        super().__init__()
        self.number = 0

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.number = epoch

    def __call__(self) -> int:
        return self.number
