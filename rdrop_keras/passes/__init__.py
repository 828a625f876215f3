"""The ways of running several training-mode passes on one batch."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.passes import calls
from rdrop_keras.passes import concat
from rdrop_keras.passes import shared_prefix
from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.way import Batch
from rdrop_keras.passes.way import Way

__all__ = ["WAYS", "Batch", "run_passes", "way_for"]

# `passes="auto"` takes the first that fits.
WAYS = (shared_prefix.WAY, concat.WAY, calls.WAY)


def way_for(
    model: keras.Model, passes: str, observation: Observation | None
) -> Way:
    """Returns the way in which the passes of a model run.

    Args:
        model: The model.
        passes: As in `RDrop`.
        observation: What the first batch has shown of the model, or None
            before it.
    """
    if passes == "auto":
        return next(way for way in WAYS if way.fits(model, observation))
    return next(way for way in WAYS if way.name == passes)


def run_passes(batch: Batch) -> list[Any]:
    """Runs the passes in the way that the settings ask for.

    Returns:
        The result of `batch.finish` for each pass.
    """
    passes = batch.settings.passes
    return way_for(batch.model, passes, batch.observation).run(batch)
