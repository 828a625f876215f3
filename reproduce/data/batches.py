"""Batches of NumPy arrays, for any backend of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from reproduce.common.errors import InputError

# Without gradients, larger batches fit into memory.
MEASURE_BATCH_SIZE = 256
# Sequences are padded to the first of these lengths that is long enough, so
# that XLA compiles only a few shapes.
BUCKETS = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

Change = Callable[[Any, np.random.Generator], Any]


class Rows(NamedTuple):
    """Inputs (an array or a dictionary of sequences) and a target per row."""

    inputs: Any
    targets: np.ndarray

    def at(self, places: np.ndarray | slice) -> Rows:
        """Returns some of the rows."""
        if not isinstance(self.inputs, dict):
            return Rows(self.inputs[places], self.targets[places])
        inputs = {name: array[places] for name, array in self.inputs.items()}
        return Rows(inputs, self.targets[places])


class Batches(keras.utils.PyDataset):
    """Batches of all rows, in order or reshuffled in every epoch.

    The order depends only on the seed and the number of the epoch, so that a
    resumed run continues with the same batches as an uninterrupted one.

    Args:
        rows: The rows.
        batch_size: The number of rows in a batch. The last batch may be
            smaller.
        seed: The seed of the order. None keeps the order.
        epoch: A function that returns the number of the epoch that begins.
        change: A function that augments the inputs of a batch, given a random
            generator.

    Attributes:
        fault: The error that reading a batch raised. TensorFlow replaces it
            with its own error.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int = MEASURE_BATCH_SIZE,
        seed: int | None = None,
        epoch: Callable[[], int] = lambda: 0,
        change: Change | None = None,
    ):
        super().__init__()
        self.fault: InputError | None = None
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch
        self._change = change
        self._begun = False
        self._order: tuple[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return -(-len(self._rows.targets) // self._batch_size)

    def on_epoch_begin(self) -> None:
        self._begun = True

    def __getitem__(self, index: int) -> tuple[Any, np.ndarray]:
        epoch = self._epoch()
        start = index * self._batch_size
        places = self._places(epoch)[start : start + self._batch_size]
        try:
            inputs, targets = self._rows.at(places)
        except InputError as error:
            self.fault = error
            raise
        if self._change is not None:
            generator = np.random.default_rng((self._seed, epoch, index))
            inputs = self._change(inputs, generator)
        if isinstance(inputs, dict):
            # Keras infers the batch signature from two batches before the
            # first epoch and takes a length that they share for a fixed one.
            sampled = not self._begun and index == 1
            inputs = cut(inputs, longer=sampled)
        return inputs, targets

    def _places(self, epoch: int) -> np.ndarray:
        count = len(self._rows.targets)
        if self._seed is None:
            return np.arange(count)
        if self._order is None or self._order[0] != epoch:
            generator = np.random.default_rng((self._seed, epoch))
            self._order = epoch, generator.permutation(count)
        return self._order[1]


def cut(
    inputs: dict[str, np.ndarray], longer: bool = False
) -> dict[str, np.ndarray]:
    """Trims padding from sequences, to the bucket of the longest row.

    Args:
        inputs: The arrays, which include `padding_mask`.
        longer: Whether to add a position instead.
    """
    if longer:
        edge = ((0, 0), (0, 1))
        return {name: np.pad(array, edge) for name, array in inputs.items()}
    used = np.asarray(inputs["padding_mask"]).any(axis=0).nonzero()[0]
    longest = int(used.max(initial=0)) + 1
    length = next((size for size in BUCKETS if size >= longest), None)
    return {name: array[:, :length] for name, array in inputs.items()}
