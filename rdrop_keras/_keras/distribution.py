"""What Keras knows of the processes of a distribution."""

from __future__ import annotations

import keras


def process_index() -> int:
    """Returns the index of this process in the current distribution.

    It is 0 without a distribution. Keras has no public name for it:
    `data_shard_id` is that of several processes if they share a replica.
    """
    distribution = keras.distribution.distribution()
    return 0 if distribution is None else distribution._process_id
