"""What depends on the device and the backend."""

from __future__ import annotations

import keras


def is_compiled() -> bool:
    """Returns whether XLA compiles the training step by default."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        # JAX is slow without XLA, and PyTorch has a compiler of its own.
        return backend == "jax"
    # On a CPU, XLA gains little and compiles for every batch shape.
    return bool(keras.distribution.list_devices("gpu"))
