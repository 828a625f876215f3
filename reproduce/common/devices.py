"""What depends on the device and the backend."""

from __future__ import annotations

import keras


def is_compiled() -> bool:
    """Returns whether XLA compiles the training step by default."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        # JAX is slow without XLA, and PyTorch has a compiler of its own.
        return backend == "jax"
    if num_devices() > 1:
        # Keras fails there.
        return False
    # On a CPU, XLA gains little and compiles for every batch shape.
    return bool(keras.distribution.list_devices("gpu"))


def num_devices() -> int:
    """Returns the number of devices that share a training batch."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.distribute.get_strategy().num_replicas_in_sync
    parallel = keras.distribution.distribution()
    return 1 if parallel is None else parallel.device_mesh.devices.size
