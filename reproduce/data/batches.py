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

# The index of a bucket, and the rows of the bucket that form a batch.
Chosen = tuple[int, np.ndarray]
Change = Callable[[Any, np.random.Generator], Any]


class Rows(NamedTuple):
    """Inputs (an array or a dictionary of sequences) and a target per row."""

    inputs: Any
    targets: np.ndarray


class Batches(keras.utils.PyDataset):
    """Batches of the rows of buckets, assembled anew in every epoch.

    Args:
        buckets: The inputs and targets of each bucket.
        plan: A function that returns the batches of an epoch, given its number.
            It must depend on nothing else, so that a resumed run continues with
            the batches of an uninterrupted one.
        epoch: A function that returns the number of the current epoch.
        change: A function that changes the inputs of a batch, given a random
            generator of `seed`, the epoch and the index.
        seed: The seed of `change`.

    Attributes:
        fault: The error that reading a batch raised. TensorFlow replaces it
            with its own error.
    """

    def __init__(
        self,
        buckets: list[Any],
        plan: Callable[[int], list[Chosen]],
        epoch: Callable[[], int] = lambda: 0,
        change: Change | None = None,
        seed: int | None = None,
    ):
        super().__init__()
        self.fault: InputError | None = None
        self._buckets = buckets
        self._plan = plan
        self._epoch = epoch
        self._change = change
        self._seed = seed
        self._begun = False
        self._planned = (0, self._varied(plan(0)))

    def __len__(self) -> int:
        return len(self._planned[1])

    def on_epoch_begin(self) -> None:
        self._begun = True

    def __getitem__(self, index: int) -> Any:
        # The plan is checked here because Keras does not always call
        # `on_epoch_begin` of the dataset.
        if self._planned[0] != (number := self._epoch()):
            self._planned = (number, self._varied(self._plan(number)))
        bucket, chosen = self._planned[1][index]
        try:
            inputs, targets = keras.tree.map_structure(
                lambda rows: rows[chosen], tuple(self._buckets[bucket])
            )
        except InputError as error:
            self.fault = error
            raise
        if self._change is not None:
            generator = np.random.default_rng((self._seed, number, index))
            inputs = self._change(inputs, generator)
        if isinstance(inputs, dict) and "padding_mask" in inputs:
            # Keras infers the batch signature from two batches before the
            # first epoch and takes a length that they share for a fixed one.
            inputs = cut(inputs, longer=not self._begun and index == 1)
        return inputs, targets

    def _varied(self, batches: list[Chosen]) -> list[Chosen]:
        """Moves a batch of different lengths to the second position.

        Keras infers from the first two batches which axes vary in length.
        """
        if len(batches) < 3 or len(self._buckets) < 2:
            return batches

        def lengths(batch):
            rows = keras.tree.flatten(self._buckets[batch[0]])
            return np.array([x.shape[1] for x in rows])

        first = lengths(batches[0])
        differing = [np.sum(lengths(batch) != first) for batch in batches]
        batches = list(batches)
        batches.insert(1, batches.pop(max(int(np.argmax(differing)), 1)))
        return batches


def batches_of_rows(
    rows: tuple[Any, np.ndarray],
    batch_size: int = MEASURE_BATCH_SIZE,
    seed: int | None = None,
    epoch: Callable[[], int] = lambda: 0,
    change: Change | None = None,
) -> Batches:
    """Returns batches of all rows, in order or reshuffled in every epoch.

    Without a seed, the order is kept. `change` is as for `Batches`.
    """
    count = len(rows[1])

    def plan(number):
        order = np.arange(count)
        if seed is not None:
            order = np.random.default_rng((seed, number)).permutation(count)
        starts = range(0, count, batch_size)
        return [(0, order[start : start + batch_size]) for start in starts]

    return Batches([rows], plan, epoch, change, seed)


class Mapped(keras.utils.PyDataset):
    """Batches that a function of inputs and labels transforms."""

    def __init__(
        self, batches: keras.utils.PyDataset, function: Callable[..., Any]
    ):
        super().__init__()
        self._batches = batches
        self._function = function

    def __len__(self) -> int:
        return len(self._batches)

    def on_epoch_begin(self) -> None:
        self._batches.on_epoch_begin()

    def __getitem__(self, index: int) -> Any:
        return self._function(*self._batches[index])


def cut(
    inputs: dict[str, np.ndarray], longer: bool = False
) -> dict[str, np.ndarray]:
    """Trims padding from sequences, to the bucket of the longest row.

    With `longer`, it adds a position instead.
    """
    if longer:
        edge = ((0, 0), (0, 1))
        return {name: np.pad(array, edge) for name, array in inputs.items()}
    used = np.asarray(inputs["padding_mask"]).any(axis=0).nonzero()[0]
    longest = int(used.max(initial=0)) + 1
    length = next((size for size in BUCKETS if size >= longest), None)
    return {name: array[:, :length] for name, array in inputs.items()}
