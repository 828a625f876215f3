"""The training step of each Keras backend. Only this package names backends."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import keras

# The backends that have a module of their name here.
_BACKENDS = ("jax", "tensorflow", "torch")


_loaded: dict[str, ModuleType] = {}


def trainer() -> ModuleType:
    """Returns the module that trains on the current backend.

    Raises:
        NotImplementedError: If R-Drop cannot train on that backend.
    """
    backend = keras.backend.backend()
    loaded = _loaded.get(backend)
    return _load(backend) if loaded is None else loaded


# The cache keeps AutoGraph from converting the import. `torch.compile` warns of
# caches, but finds the module loaded.
@functools.cache
def _load(backend: str) -> ModuleType:
    if backend not in _BACKENDS:
        raise NotImplementedError(
            f"Expected the Keras backend to be one of {list(_BACKENDS)} for "
            f"training with R-Drop. Received: {backend!r}. Set the environment "
            "variable KERAS_BACKEND to one of them, or compile with "
            "`rdrop=None`."
        )
    module = importlib.import_module(f"rdrop_keras.training.{backend}")
    _loaded[backend] = module
    return module
