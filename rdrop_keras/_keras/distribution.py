"""The distribution of Keras over several processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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
