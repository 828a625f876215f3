"""Batches put together by a plan, anew in every epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

# A bucket, and which of its rows are a batch.
Chosen = tuple[int, np.ndarray]


class Batches(keras.utils.PyDataset):
    """Rows of buckets, put together anew in every epoch.

    Args:
        buckets: The rows.
        plan: Given the number of an epoch, returns its batches in order.
        epoch: Returns the number of the epoch that runs.
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
        # Keras calls `on_epoch_begin` only where nobody else does.
        if self._planned[0] != (number := self._epoch()):
            self._planned = (number, self._varied(self._plan(number)))
        bucket, chosen = self._planned[1][index]
        return keras.tree.map_structure(
            lambda rows: rows[chosen], self._buckets[bucket]
        )

    def _varied(self, batches: list[Chosen]) -> list[Chosen]:
        """Moves a batch of other lengths to the second place.

        From the first two batches Keras learns which axes vary in length.
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
    """Batches, each given to a function.

    Args:
        batches: The batches.
        function: Given inputs and labels, returns what the batch becomes.
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
