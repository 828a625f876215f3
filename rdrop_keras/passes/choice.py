"""The way of running passes that `passes="auto"` chooses."""

from __future__ import annotations

import keras

from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.shared_prefix import Cut
from rdrop_keras.passes.shared_prefix import cut


def choose(
    model: keras.Model, passes: str, observation: Observation | None
) -> str:
    """Returns how the passes of a model run.

    `"auto"` is `"shared_prefix"` if something comes before the first
    stochastic layer of a functional model, or if the model calls
    `compute_once`, and `"calls"` otherwise. It never is `"concat"`, which
    shows batch normalization the repeated batch.

    Args:
        model: The model.
        passes: As in `RDrop`.
        observation: What the first batch has shown of the model, or None
            before it.
    """
    if passes != "auto":
        return passes
    shares = shared_part(model, observation) is not None or (
        observation is not None and observation.uses_compute_once
    )
    return "shared_prefix" if shares else "calls"


def shared_part(
    model: keras.Model, observation: Observation | None
) -> Cut | None:
    """Returns what all passes of a functional model share, or None."""
    return cut(model, () if observation is None else observation.drawing)
