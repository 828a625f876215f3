"""One call of the model for each pass."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.passes.dropout import dropout_at


class State:
    """What passes assign, so that all of them start from the same values.

    A step leaves what its first pass made: moving statistics, states of
    recurrent layers, power iterations, counters.

    Args:
        variables: The variables that a pass assigns.
    """

    def __init__(self, variables: Sequence[keras.Variable]):
        self._variables = variables
        self._start = self._values()
        self._first = self._start

    def end_pass(self, index: int, last: bool) -> None:
        """Makes ready for the next pass, or for what comes after all.

        Args:
            index: The number of the pass that has been made.
            last: Whether it was the last.
        """
        if index == 0:
            self._first = self._values()
            if last:
                return
        for variable, value in zip(
            self._variables, self._first if last else self._start
        ):
            variable.assign(value)

    def _values(self):
        return [keras.ops.copy(variable) for variable in self._variables]


def run_calls(
    model: keras.Model,
    call: Callable[[int], Any],
    num_passes: int,
    dropout_rates: Sequence[float] | None = None,
    state: Sequence[keras.Variable] = (),
    finish: Callable[[Any], Any] = lambda output: output,
) -> list[Any]:
    """Makes `num_passes` calls on one batch.

    Args:
        model: A model whose `call` takes `training`.
        call: Runs the model in training mode, given the number of the pass.
        num_passes: How many calls to make.
        dropout_rates: The dropout rate of each call, or None for the model's
            own.
        state: The variables that a pass assigns.
        finish: Makes of an output what is to be returned. It runs before the
            next call, because `model.losses` holds the `add_loss` terms of
            the latest call only, and what it assigns belongs to its pass.

    Returns:
        What `finish` returned for each pass.
    """
    results = []
    restored = State(state)
    for index in range(num_passes):
        rate = None if dropout_rates is None else dropout_rates[index]
        with dropout_at(model, rate):
            output = call(index)
        results.append(finish(output))
        restored.end_pass(index, last=index == num_passes - 1)
    return results
