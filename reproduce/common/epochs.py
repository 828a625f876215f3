"""A callback that knows the current epoch."""

from __future__ import annotations

from typing import Any

import keras


class EpochNumber(keras.callbacks.Callback):
    """Callback that returns the number of the current epoch when called.

    It is right in resumed runs as well. The optimizer's iterations cannot
    replace it, because with gradient accumulation they count updates rather
    than batches.
    """

    def __init__(self):
        super().__init__()
        self.number = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.number = epoch

    def __call__(self) -> int:
        return self.number
