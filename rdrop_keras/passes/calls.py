"""One call of the model for each pass."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.dropout import dropout_at


def run_calls(
    model: keras.Model,
    x: Any,
    num_passes: int,
    dropout_rates: Sequence[float] | None = None,
) -> Iterator[Any]:
    """Yields the outputs of `num_passes` training-mode calls on one batch.

    Lazily, because `model.losses` holds the `add_loss` terms of the latest
    call only: the task loss of a pass has to be taken before the next pass
    runs.

    Args:
        model: A model whose `call` takes `training`.
        x: A batch of inputs, of any structure.
        num_passes: How many calls to make.
        dropout_rates: The dropout rate of each call, or None for the model's
            own.
    """
    for index in range(num_passes):
        rate = None if dropout_rates is None else dropout_rates[index]
        with dropout_at(model, rate):
            output = model(x, training=True)
        yield output
