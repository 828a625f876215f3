"""Rows of arrays, and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Measuring takes no gradients, and so has room for more rows at a time.
MEASURE_BATCH_SIZE = 256


class Rows(NamedTuple):
    """The inputs of the model, an array or arrays by name, and targets."""

    inputs: Any
    targets: np.ndarray

    def at(self, places: np.ndarray | slice) -> Rows:
        """Returns some of the rows."""
        chosen = tf.nest.map_structure(lambda x: x[places], self.inputs)
        return Rows(chosen, self.targets[places])


def shuffled_batches(
    rows: Rows, size: int, seed: int, epoch: Callable[[], int]
) -> tf.data.Dataset:
    """Returns batches of all rows, in an order of its own in each epoch.

    Args:
        rows: The rows.
        size: How many make a batch.
        seed: What the orders depend on, beside the epoch.
        epoch: Returns the number of the epoch that begins.
    """
    count = len(rows.targets)

    def one_epoch():
        # `Dataset.shuffle` would begin with the first epoch's order again.
        order = np.random.default_rng((seed, epoch())).permutation(count)
        for start in range(0, count, size):
            yield tuple(rows.at(order[start : start + size]))

    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype),
        tuple(rows),
    )
    batches = tf.data.Dataset.from_generator(
        one_epoch, output_signature=signature
    )
    cardinality = tf.data.experimental.assert_cardinality(-(-count // size))
    return batches.apply(cardinality)


def measuring_batches(rows: Rows) -> tf.data.Dataset:
    """Returns batches of all rows in their order."""
    batches = tf.data.Dataset.from_tensor_slices(tuple(rows))
    return batches.batch(MEASURE_BATCH_SIZE)
