"""Which way of running passes `passes="auto"` chooses."""

from __future__ import annotations

import inspect

import keras

from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.shared_prefix import cut


def choose(
    model: keras.Model, passes: str, observation: Observation | None = None
) -> str:
    """Returns how the passes of a model run.

    `"auto"` is `"shared_prefix"` where something comes before the first
    stochastic layer of a functional model, or where a class says by
    `compute_once` what does, and `"calls"` elsewhere. In the measurements of
    docs/results/performance.md the first costs no more than the second and as
    little as a plain step. `"concat"` is faster by a few percent for large
    vocabularies without XLA, but not right for every model: batch
    normalization would see the repeated batch.

    Args:
        model: The model, with its graph (see `is_undecided`).
        passes: As in `RDrop`.
        observation: What a pass of the model does, if it has been seen.
    """
    if passes != "auto":
        return passes
    if observation is None:
        shares = cut(model) is not None or _names_compute_once(type(model))
    else:
        shares = (
            cut(model, observation.drawing) is not None
            or observation.uses_compute_once
        )
    return "shared_prefix" if shares else "calls"


def is_undecided(model: keras.Model) -> bool:
    """Whether a model has no graph yet to look at."""
    return isinstance(model, keras.Sequential) and not model.built


def _names_compute_once(cls: type) -> bool:
    """Whether a method of a class, or of a base of it, calls `compute_once`."""
    return any(
        "compute_once" in function.__code__.co_names
        for _, function in inspect.getmembers(cls, inspect.isfunction)
    )
