"""Training steps of Keras on JAX, as `fit` compiles them."""

from __future__ import annotations

from typing import Any

import jax
import keras

from benchmarks.arms import RDROP
from benchmarks.arms import SEED
from benchmarks.arms import batch_of
from benchmarks.gpu.compiled import Compiled
from benchmarks.gpu.compiled import compile_all
from benchmarks.gpu.compiled import device_name
from benchmarks.gpu.compiled import peak_of
from benchmarks.gpu.models import model_of
from benchmarks.gpu.settings import LEARNING_RATE
from benchmarks.gpu.settings import POLICIES
from benchmarks.gpu.settings import passes_of
from benchmarks.objectives import crossentropy

__all__ = ["peak_of", "steps_of"]


def steps_of(
    job: dict[str, Any],
) -> tuple[dict[str, Compiled], dict[str, dict[str, Any]]]:
    """Returns the compiled step of each arm, and facts about it.

    Args:
        job: The model, the dtype and the arms.
    """
    keras.config.set_dtype_policy(POLICIES[job["dtype"]])
    measured = model_of(job["model"], job["tiny"])
    keras.utils.set_random_seed(SEED)
    model = measured.case.build()
    lowered, states, batches = {}, {}, {}
    for arm in job["arms"]:
        # Without R-Drop this is Keras's own step.
        model.compile(
            keras.optimizers.Adam(LEARNING_RATE),
            crossentropy(measured.case.label_smoothing),
            rdrop=RDROP.get(arm),
        )
        model.optimizer.build(model.trainable_variables)
        states[arm] = state_of(model)
        if len(job["arms"]) > 1:
            # A step gives up the memory of the state that it is given.
            states[arm] = jax.tree.map(lambda x: x.copy(), states[arm])
        batches[arm] = batch_of(measured.case, arm)
        step = jax.jit(model.train_step, donate_argnums=0)
        lowered[arm] = step.lower(states[arm], batches[arm])
    steps = {
        arm: Compiled(
            step, states[arm], batches[arm], lambda logs: logs["loss"]
        )
        for arm, step in compile_all(lowered).items()
    }
    facts = {
        arm: {
            "device": device_name(),
            "items": measured.items,
            "unit": measured.unit,
            "flops": 3 * measured.flops * passes_of(arm),
            **step.facts(),
        }
        for arm, step in steps.items()
    }
    return steps, facts


def state_of(model: keras.Model) -> tuple[list[Any], ...]:
    """Returns the state that Keras's training step takes on JAX."""
    groups = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    return tuple([variable.value for variable in group] for group in groups)
