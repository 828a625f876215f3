"""One call of the model for each pass."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.dropout import dropout_at


def run_calls(
    model: keras.Model,
    call: Callable[[int], Any],
    num_passes: int,
    dropout_rates: Sequence[float] | None = None,
    moving_statistics: str = "every_pass",
) -> Iterator[Any]:
    """Yields the outputs of `num_passes` calls on one batch.

    Lazily, because `model.losses` holds the `add_loss` terms of the latest
    call only: the task loss of a pass has to be taken before the next pass
    runs.

    Args:
        model: A model whose `call` takes `training`.
        call: Runs the model in training mode, given the number of the pass.
        num_passes: How many calls to make.
        dropout_rates: The dropout rate of each call, or None for the model's
            own.
        moving_statistics: As in `RDrop`.
    """
    kept = []
    for index in range(num_passes):
        rate = None if dropout_rates is None else dropout_rates[index]
        with dropout_at(model, rate):
            output = call(index)
        if moving_statistics == "first_pass":
            if index == 0:
                kept = [
                    (variable, keras.ops.copy(variable))
                    for variable in _moving_statistics(model)
                ]
            for variable, value in kept:
                variable.assign(value)
        yield output


def _moving_statistics(model: keras.Model) -> Iterator[keras.Variable]:
    for layer in _keras.all_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            yield layer.moving_mean
            yield layer.moving_variance
