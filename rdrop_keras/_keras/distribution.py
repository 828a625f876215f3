"""What Keras knows of the processes of a distribution."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


def process_index() -> int:
    """Returns the index of this process in the current distribution.

    It is 0 without a distribution. Keras has no public name for it:
    `data_shard_id` is that of several processes if they share a replica.
    """
    distribution = keras.distribution.distribution()
    return 0 if distribution is None else distribution._process_id


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
