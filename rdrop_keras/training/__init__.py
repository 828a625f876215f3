"""The training step of each Keras backend. Only this package names backends."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import keras

_MODULES = {"tensorflow": "rdrop_keras.training.tensorflow"}


def trainer() -> ModuleType:
    """Returns the module that trains on the current backend.

    Raises:
        NotImplementedError: If R-Drop cannot train on that backend.
    """
    backend = keras.backend.backend()
    if backend not in _MODULES:
        raise NotImplementedError(
            f"Expected the Keras backend to be one of {sorted(_MODULES)} for "
            f"training with R-Drop. Received: {backend!r}. Set "
            "KERAS_BACKEND=tensorflow, or compile with `rdrop=None`."
        )
    return _load(_MODULES[backend])


# The cache also keeps AutoGraph from converting the import.
@functools.cache
def _load(name: str) -> ModuleType:
    return importlib.import_module(name)
