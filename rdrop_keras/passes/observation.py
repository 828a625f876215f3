"""What a training-mode call of a model does beside computing its output."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.shared_prefix import Once
from rdrop_keras.passes.shared_prefix import once


# No tuple: Keras would track the variables in it as the model's own.
@dataclasses.dataclass(frozen=True)
class Observation:
    """What one training-mode call of a model was seen to do.

    Attributes:
        state: The variables that it assigns, other than random state. Every
            pass has to start from the values that the step found there.
        counters: The integer variables among them, where the call drew from
            no `keras.random.SeedGenerator`. A layer may count its calls to
            make random numbers of the count, so that they are random state
            until the passes turn out to be the same all the same.
        draws: Whether it drew random numbers, as far as Keras knows.
        drawing: The positions of the calls in its graph that drew some.
        uses_compute_once: Whether it called `compute_once`.
    """

    state: tuple[keras.Variable, ...]
    counters: tuple[keras.Variable, ...]
    draws: bool
    drawing: frozenset[int]
    uses_compute_once: bool


class Recording(keras.StatelessScope):
    """Holds back what is assigned inside, and remembers the variables.

    Args:
        model: Its regularizers read their weights from the scope.
    """

    def __init__(self, model: keras.Model):
        regularized = [
            (v, v) for v in model.trainable_variables if v.regularizer
        ]
        super().__init__(regularized, collect_losses=True)
        self.assigned: dict[int, keras.Variable] = {}
        self.draws = 0

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, _ = update
        self.assigned[id(variable)] = variable
        self.draws += _keras.is_seed_state(variable)
        super().add_update(update)

    def release_seeds(self) -> None:
        """Lets the random state move on, after the scope."""
        for variable in self.assigned.values():
            if _keras.is_seed_state(variable):
                variable.assign(self.get_current_value(variable))


def observe(model: keras.Model, run: Callable[[Any], Any]) -> Observation:
    """Returns what a training-mode call of a model does; changes nothing.

    Args:
        model: A built model.
        run: Calls what it is given, in place of the model, on a batch in
            training mode, and computes the loss of it where that is the
            model's own code.
    """
    recording = Recording(model)
    drawing = set()

    def watched(position, operation):
        def call(*args, **kwargs):
            before = recording.draws
            outputs = operation(*args, **kwargs)
            if recording.draws > before:
                drawing.add(position)
            return outputs

        return call

    called = model
    if _keras.graph_of(model) is not None:
        called = _keras.rewired(model, [watched])
    shared = Once(lambda: recording.draws)
    with recording, once.set(model, shared):
        run(called)
    state = [
        variable
        for variable in recording.assigned.values()
        if not _keras.is_seed_state(variable)
    ]
    counters = []
    if not recording.draws:
        counters = [v for v in state if "int" in v.dtype]
    return Observation(
        tuple(state),
        tuple(counters),
        recording.draws > 0,
        frozenset(drawing),
        shared.used,
    )
