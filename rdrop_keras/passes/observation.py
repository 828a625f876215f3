"""The side effects of a training-mode call of a model."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.once import Once
from rdrop_keras.passes.once import once


# Not a `NamedTuple`: Keras would track the variables in it as the model's own.
@dataclasses.dataclass(frozen=True)
class Observation:
    """The side effects of one training-mode call of a model.

    Attributes:
        state: The variables that the call assigns, except random state. Every
            pass has to start from the values that they have before the step.
        counters: The integer variables among them, if the call drew from no
            `keras.random.SeedGenerator`. A layer may compute random numbers
            from a counter of its calls, so counters are treated as random
            state unless the first batch shows that all passes are identical.
        draws: Whether the call drew from a `keras.random.SeedGenerator`.
        drawing: The positions of the operations of its graph that did so.
        uses_compute_once: Whether the call used `compute_once`.
    """

    state: tuple[keras.Variable, ...]
    counters: tuple[keras.Variable, ...]
    draws: bool
    drawing: frozenset[int]
    uses_compute_once: bool


class HeldAssignments(keras.StatelessScope):
    """A scope that holds back assignments until `release` is called.

    Args:
        model: The model to call, whose regularizers read their weights from
            the scope.

    Attributes:
        assigned: The variables that were assigned, by their `id`.
    """

    def __init__(self, model: keras.Model):
        regularized = [
            (v, v) for v in model.trainable_variables if v.regularizer
        ]
        super().__init__(regularized, collect_losses=True)
        self.assigned: dict[int, keras.Variable] = {}

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, _ = update
        self.assigned[id(variable)] = variable
        super().add_update(update)

    def get_current_value(self, variable: keras.Variable) -> Any:
        value = super().get_current_value(variable)
        if value is None and self.original_scope is not None:
            # On JAX training and evaluation pass their state in a scope.
            value = self.original_scope.get_current_value(variable)
        return value

    def release(self) -> None:
        """Assigns the new values, once the scope has ended."""
        for variable in self.assigned.values():
            variable.assign(self.get_current_value(variable))


class Recording(HeldAssignments):
    """A scope that holds back assignments and counts random draws.

    The scope counts the draws from seed generators instead of keeping the
    assigned states: the body of `keras.ops.vectorized_map` assigns a tensor of
    its own graph, which cannot be read outside of that graph. Draws from the
    backend's global generators, and changes of buffers of PyTorch modules, are
    taken back when the scope ends.

    Args:
        model: The model to call.
    """

    def __init__(self, model: keras.Model):
        super().__init__(model)
        self._model = model
        self._draws: collections.Counter[int] = collections.Counter()
        self._reads_start = False
        self._global_draws = 0

    def __enter__(self) -> Recording:
        self._global_start = self._global_state = _keras.global_random_state()
        self._buffers = _keras.module_buffers(self._model)
        self._active = True
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        self._count_global_draws()
        self._active = False
        _keras.set_global_random_state(self._global_start)
        _keras.set_module_buffers(self._buffers)
        super().__exit__(*args)

    @property
    def draws(self) -> int:
        """The number of random draws."""
        if self._active:
            self._count_global_draws()
        return self._draws.total() + self._global_draws

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, _ = update
        if _keras.is_seed_state(variable):
            self.assigned[id(variable)] = variable
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
        # As in `SeedGenerator.next`: the state is the seed and a draw counter.
        return start + keras.ops.cast([0, draws], start.dtype)

    def counters(self) -> list[keras.Variable]:
        """Returns the assigned integer variables if nothing was drawn."""
        if self.draws:
            return []
        return [v for v in self.assigned.values() if "int" in v.dtype]

    def release_random_state(self) -> None:
        """Assigns the new random state, once the scope has ended."""
        _keras.set_global_random_state(self._global_state)
        counters = {id(variable) for variable in self.counters()}
        for key, variable in self.assigned.items():
            if _keras.is_seed_state(variable) or key in counters:
                variable.assign(self.get_current_value(variable))

    def _count_global_draws(self):
        state = _keras.global_random_state()
        if state != self._global_state:
            self._global_draws += 1
            self._global_state = state


def observe(
    model: keras.Model,
    run: Callable[[Any], Any],
    finish: Callable[[Any], Any] | None = None,
) -> Observation:
    """Observes a training-mode call of a model without changing its state.

    Args:
        model: A built model.
        run: A function that takes the model, or an object that stands in for
            it, and calls it on a batch in training mode.
        finish: Optional function that computes the loss of the output with the
            user's own code. The variables that it assigns belong to its pass,
            except for metrics, which report on all passes.
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
