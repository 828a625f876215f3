"""The ways of running several training-mode passes on one batch."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.calls import State
from rdrop_keras.passes.calls import run_calls
from rdrop_keras.passes.choice import choose
from rdrop_keras.passes.choice import shared_part
from rdrop_keras.passes.concat import run_concat
from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.shared_prefix import shared_calls
from rdrop_keras.rdrop import RDrop

__all__ = [
    "choose",
    "run_calls",
    "run_concat",
    "run_passes",
    "shared_calls",
    "shared_part",
]


def run_passes(
    model: keras.Model,
    x: Any,
    settings: RDrop,
    observation: Observation,
    finish: Callable[[Any], Any],
    replacements: Sequence[Callable[[int, Callable], Callable]] = (),
) -> list[Any]:
    """Runs the passes in the way that the settings ask for.

    Args:
        model: A built model whose `call` takes `training`.
        x: A batch of inputs.
        settings: The compiled settings.
        observation: The `Observation` of the model.
        finish: See `run_calls`.
        replacements: Replacements for the operations of the model's graph; see
            `_keras.rewired`.

    Returns:
        The result of `finish` for each pass.
    """

    def call(others: Sequence[Any] = ()) -> Any:
        rewiring = [*replacements, *others]
        called = _keras.rewired(model, rewiring) if rewiring else model
        return called(x, training=True)

    state = restored_state(model, settings, observation)
    how = choose(model, settings.passes, observation)
    if how == "concat":
        results = []
        outputs = run_concat(model, x, settings.num_passes)
        restored = State(state)
        for index, output in enumerate(outputs):
            results.append(finish(output))
            restored.end_pass(index, last=index == settings.num_passes - 1)
        return results
    if how == "shared_prefix":
        run = shared_calls(model, call, observation.drawing)
    else:

        def run(index):
            return call()

    return run_calls(
        model,
        run,
        settings.num_passes,
        settings.dropout_rates,
        state,
        finish,
    )


def restored_state(
    model: keras.Model, settings: RDrop, observation: Observation
) -> list[keras.Variable]:
    """Returns the variables that are reset before every pass."""
    moving_on = {id(variable) for variable in observation.counters}
    if settings.moving_statistics == "every_pass":
        for layer in _keras.all_layers(model):
            if isinstance(layer, keras.layers.BatchNormalization):
                moving_on |= {id(layer.moving_mean), id(layer.moving_variance)}
    return [v for v in observation.state if id(v) not in moving_on]
