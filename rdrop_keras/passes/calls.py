"""Passes as separate calls of the model."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.dropout import dropout_at
from rdrop_keras.passes.way import Batch
from rdrop_keras.passes.way import Way


class State:
    """The variables that passes assign, reset so that all passes start alike.

    After the step they have the values of the first pass: moving statistics,
    states of recurrent layers, power iterations, counters.

    The buffers of PyTorch modules belong to them.

    Args:
        model: The model that the passes call.
        variables: The variables that a pass assigns.
    """

    def __init__(self, model: keras.Model, variables: Sequence[keras.Variable]):
        self._model = model
        self._variables = variables
        self._start = self._values()
        self._first = self._start

    def end_pass(self, index: int, last: bool) -> None:
        """Resets the variables; after the last pass, to those of the first.

        Args:
            index: The index of the finished pass.
            last: Whether it was the last pass.
        """
        if index == 0:
            self._first = self._values()
            if last:
                return
        values, buffers = self._first if last else self._start
        for variable, value in zip(self._variables, values):
            variable.assign(value)
        _keras.set_module_buffers(buffers)

    def _values(self):
        values = [keras.ops.copy(variable) for variable in self._variables]
        return values, _keras.module_buffers(self._model)


def run_calls(
    model: keras.Model,
    call: Callable[[int], Any],
    num_passes: int,
    dropout_rates: Sequence[float] | None = None,
    state: Sequence[keras.Variable] = (),
    finish: Callable[[Any], Any] = lambda output: output,
) -> list[Any]:
    """Calls a model `num_passes` times on one batch.

    Args:
        model: A model whose `call` takes `training`.
        call: A function that takes the index of a pass and runs the model in
            training mode.
        num_passes: The number of calls.
        dropout_rates: The dropout rate of each call, or None for the model's
            own rates.
        state: The variables that a pass assigns.
        finish: A function of the output of a pass, whose result is returned.
            It runs before the next call, because `model.losses` has the
            `add_loss` terms of the latest call only, and because the variables
            that it assigns belong to its pass.

    Returns:
        The result of `finish` for each pass.
    """
    results = []
    restored = State(model, state)
    for index in range(num_passes):
        rate = None if dropout_rates is None else dropout_rates[index]
        with dropout_at(model, rate):
            output = call(index)
        results.append(finish(output))
        restored.end_pass(index, last=index == num_passes - 1)
    return results


def run_batch(batch: Batch, call: Callable[[int], Any]) -> list[Any]:
    """Runs the passes of a batch as separate calls.

    Args:
        batch: The batch.
        call: A function that takes the index of a pass and runs the model.
    """
    return run_calls(
        batch.model,
        call,
        batch.settings.num_passes,
        batch.settings.dropout_rates,
        batch.state(),
        batch.finish,
    )


WAY = Way(
    "calls",
    fits=lambda model, observation: True,
    describe=lambda model, observation: "separate calls",
    run=lambda batch: run_batch(batch, lambda index: batch.call()),
)
