"""How JAX's devices share the rows of a batch."""

from __future__ import annotations

from typing import Any

import keras


class Layouts(keras.distribution.DataParallel):
    """Divides training batches; evaluates all rows on every device.

    A batch of evaluation may not divide, and must neither lose nor repeat rows.

    Attributes:
        dividing: Whether batches are those of training.
    """

    dividing = False

    def get_data_layout(self, data_shape: Any) -> Any:
        if self.dividing:
            return super().get_data_layout(data_shape)
        return keras.distribution.TensorLayout(
            [None] * len(data_shape), self.device_mesh
        )


class DivideTraining(keras.callbacks.Callback):
    """Callback that tells `Layouts` which batches are those of training."""

    def __init__(self, layouts: Layouts):
        super().__init__()
        self._layouts = layouts

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._layouts.dividing = True

    def on_test_begin(self, logs: Any = None) -> None:
        self._layouts.dividing = False

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._layouts.dividing = False
