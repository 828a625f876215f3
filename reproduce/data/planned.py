"""Batches that are assembled by a new plan in every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# The index of a bucket, and the rows of the bucket that form a batch.
Chosen = tuple[int, np.ndarray]


class Batches(keras.utils.PyDataset):
    """Batches of the rows of buckets, assembled anew in every epoch.

    Args:
        buckets: The rows of each bucket.
        plan: A function that returns the batches of an epoch, given its number.
        epoch: A function that returns the number of the current epoch.
    """

    def __init__(
        self,
        buckets: list[Any],
        plan: Callable[[int], list[Chosen]],
        epoch: Callable[[], int] = lambda: 0,
    ):
        super().__init__()
        self._buckets = buckets
        self._plan = plan
        self._epoch = epoch
        self._planned = (0, self._varied(plan(0)))

    def __len__(self) -> int:
        return len(self._planned[1])

    def __getitem__(self, index: int) -> Any:
        # The plan is checked here because Keras does not always call
        # `on_epoch_begin` of the dataset.
        if self._planned[0] != (number := self._epoch()):
            self._planned = (number, self._varied(self._plan(number)))
        bucket, chosen = self._planned[1][index]
        return keras.tree.map_structure(
            lambda rows: rows[chosen], self._buckets[bucket]
        )

    def _varied(self, batches: list[Chosen]) -> list[Chosen]:
        """Moves a batch of different lengths to the second position.

        Keras infers from the first two batches which axes vary in length.
        """
        if len(batches) < 3:
            return batches

        def lengths(batch):
            rows = keras.tree.flatten(self._buckets[batch[0]])
            return np.array([x.shape[1] for x in rows])

        first = lengths(batches[0])
        differing = [np.sum(lengths(batch) != first) for batch in batches]
        batches = list(batches)
        batches.insert(1, batches.pop(max(int(np.argmax(differing)), 1)))
        return batches


class Mapped(keras.utils.PyDataset):
    """Batches that a function transforms.

    Args:
        batches: The batches.
        function: A function of inputs and labels that returns the new batch.
    """

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
