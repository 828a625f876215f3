"""One call of the model for each pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def run_calls(model: keras.Model, x: Any, num_passes: int) -> Iterator[Any]:
    """Yields the outputs of `num_passes` training-mode calls on one batch.

    Lazily, because `model.losses` holds the `add_loss` terms of the latest
    call only: the task loss of a pass has to be taken before the next pass
    runs.

    Args:
        model: A model whose `call` takes `training`.
        x: A batch of inputs, of any structure.
        num_passes: How many calls to make.
    """
    for _ in range(num_passes):
        yield model(x, training=True)
