"""How one batch becomes the outputs of several training-mode passes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from rdrop_keras.passes.calls import run_calls
from rdrop_keras.passes.choice import choose
from rdrop_keras.passes.choice import is_undecided
from rdrop_keras.passes.concat import run_concat
from rdrop_keras.passes.shared_prefix import shared_calls
from rdrop_keras.rdrop import RDrop

__all__ = [
    "choose",
    "is_undecided",
    "run_calls",
    "run_concat",
    "run_passes",
    "shared_calls",
]


def run_passes(model: keras.Model, x: Any, settings: RDrop) -> Iterator[Any]:
    """Yields the outputs of each pass, the way the settings say.

    Args:
        model: A model whose `call` takes `training`.
        x: A batch of inputs.
        settings: The compiled settings.
    """
    if settings.passes == "auto" and is_undecided(model):
        # Builds it.
        model(x, training=False)
    how = choose(model, settings.passes)
    if how == "concat":
        return run_concat(model, x, settings.num_passes)
    if how == "shared_prefix":
        call = shared_calls(model, x)
    else:

        def call(index):
            return model(x, training=True)

    return run_calls(
        model,
        call,
        settings.num_passes,
        settings.dropout_rates,
        settings.moving_statistics,
    )
