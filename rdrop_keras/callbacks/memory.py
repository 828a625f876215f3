"""The state that Keras's callbacks keep from one epoch to the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

_ARRAYS = "callbacks.npz"
_NAMES = ("best", "best_epoch", "wait", "stopped_epoch", "cooldown_counter")


def remember(
    callbacks: Sequence[keras.callbacks.Callback], directory: Path
) -> list[dict[str, Any]]:
    """Returns the state of callbacks as JSON values.

    Args:
        callbacks: `EarlyStopping`, `ModelCheckpoint`, `ReduceLROnPlateau` and
            others that use the same attributes.
        directory: The directory to which to write the best weights, if a
            callback has any.
    """
    remembered, arrays = [], {}
    for place, callback in enumerate(callbacks):
        values = {
            name: _plain_number(getattr(callback, name))
            for name in _NAMES
            if hasattr(callback, name)
        }
        weights = getattr(callback, "best_weights", None)
        if weights is not None:
            values["best_weights"] = len(weights)
            arrays |= {f"{place}-{i}": w for i, w in enumerate(weights)}
        remembered.append(values)
    if arrays:
        np.savez(directory / _ARRAYS, **arrays)
    return remembered


def recall(
    callbacks: Sequence[keras.callbacks.Callback],
    remembered: Sequence[dict[str, Any]],
    directory: Path,
) -> None:
    """Restores the state of callbacks that `remember` returned."""
    for place, (callback, values) in enumerate(zip(callbacks, remembered)):
        values = dict(values)
        count = values.pop("best_weights", None)
        if count is not None:
            with np.load(directory / _ARRAYS) as arrays:
                callback.best_weights = [
                    arrays[f"{place}-{i}"] for i in range(count)
                ]
        for name, value in values.items():
            setattr(callback, name, value)


def _plain_number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
