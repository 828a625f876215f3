"""The training step of each Keras backend. Only this folder names one."""

from __future__ import annotations

import importlib
from types import ModuleType

import keras

_MODULES = {"tensorflow": "rdrop_keras.trainers.tensorflow"}


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
    return importlib.import_module(_MODULES[backend])
