"""What a training-mode call of a model does beside computing its output."""

from __future__ import annotations

import collections
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

    Seeds are counted on rather than kept as they are assigned: the body of
    `keras.ops.vectorized_map` assigns a tensor of its own graph, which cannot
    be read outside of it.

    Args:
        model: Its regularizers read their weights from the scope.
    """

    def __init__(self, model: keras.Model):
        regularized = [
            (v, v) for v in model.trainable_variables if v.regularizer
        ]
        super().__init__(regularized, collect_losses=True)
        self.assigned: dict[int, keras.Variable] = {}
        self._draws: collections.Counter[int] = collections.Counter()
        self._reads_start = False

    @property
    def draws(self) -> int:
        """How many random numbers, or tensors of them, have been drawn."""
        return self._draws.total()

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, _ = update
        self.assigned[id(variable)] = variable
        if _keras.is_seed_state(variable):
            self._draws[id(variable)] += 1
        else:
            super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Any:
        draws = self._draws[id(variable)]
        if not draws or self._reads_start:
            return super().get_current_value(variable)
        self._reads_start = True
        try:
            start = variable.value
        finally:
            self._reads_start = False
        # As `SeedGenerator.next` does: a seed and how often it was drawn from.
        return start + keras.ops.cast([0, draws], start.dtype)

    def counters(self) -> list[keras.Variable]:
        """Returns what was counted by a call that drew from no generator."""
        if self.draws:
            return []
        return [v for v in self.assigned.values() if "int" in v.dtype]

    def release_random_state(self) -> None:
        """Lets the random state move on, after the scope."""
        counters = {id(variable) for variable in self.counters()}
        for key, variable in self.assigned.items():
            if _keras.is_seed_state(variable) or key in counters:
                variable.assign(self.get_current_value(variable))


def observe(
    model: keras.Model,
    run: Callable[[Any], Any],
    finish: Callable[[Any], Any] | None = None,
) -> Observation:
    """Returns what a training-mode call of a model does; changes nothing.

    Args:
        model: A built model.
        run: Receives the model, or an object that stands in for it, and
            calls it on a batch in training mode.
        finish: Computes the loss of the output, where that is the model's own
            code. What it assigns belongs to its pass, but for metrics, which
            report on all passes.
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
        output = run(called)
        reporting = {id(v) for v in model.metrics_variables}
        reporting -= set(recording.assigned)
        if finish is not None:
            finish(output)
    state = [
        variable
        for key, variable in recording.assigned.items()
        if not _keras.is_seed_state(variable) and key not in reporting
    ]
    return Observation(
        tuple(state),
        tuple(recording.counters()),
        recording.draws > 0,
        frozenset(drawing),
        shared.used,
    )
