"""The distribution of Keras over several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Suspends the distribution, so that one process can save weights.

    `save_weights` makes an optimizer, to compare attributes with. JAX would
    wait for all processes to make its variables (Keras 3.15).
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        yield
        return
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def process_group(model: keras.Model) -> Any:
    """Returns PyTorch's process group over which Keras trains a model, or None.

    Keras 3.16 wraps the model in `DistributedDataParallel`; earlier releases
    train a model of its own in each process. No public API tells whether a
    model is wrapped, and a process group may be there for other purposes.
    """
    wrapper = getattr(model, "ddp_model", None)
    return None if wrapper is None else wrapper.process_group
