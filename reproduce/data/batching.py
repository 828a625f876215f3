"""Batches with about the same number of tokens, for texts of any length.

Pairs of similar length share a bucket, from which batches are made. The number
of pairs in a batch is `max_tokens` divided by the padded length of the bucket.
All batches of a bucket except its last have the same shape, so that XLA
compiles only a few shapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.batches import Batches
from reproduce.data.batches import Chosen
from reproduce.data.special_ids import SPECIAL_IDS
from reproduce.data.special_ids import SpecialIds

# Lengths are rounded up to multiples of 8, at which matrix units are fastest.
MULTIPLE = 8
# XLA compiles a training step for each bucket.
BUCKETS = 8
# Source and target ids by name, and labels.
Rows = tuple[dict[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EncodedPairs:
    """Token ids of sources and targets, without start and end."""

    sources: tuple[np.ndarray, ...]
    targets: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def at(self, indices: Sequence[int]) -> EncodedPairs:
        """Returns some of the pairs."""
        sides = (self.sources, self.targets)
        return EncodedPairs(
            *(tuple(side[i] for i in indices) for side in sides)
        )

    @property
    def lengths(self) -> np.ndarray:
        """The length of each pair: its longer side and the end."""
        return 1 + np.array(
            [max(map(len, pair)) for pair in zip(self.sources, self.targets)],
            "int64",
        )


@dataclass(frozen=True)
class Batching:
    """The rules that assign pairs to batches.

    A batch is `({"source_ids", "target_ids"}, labels)`, each int32 of shape
    `(pairs, length)` and padded. Sources end with the end id, targets begin
    with the start id, and labels are the targets shifted by one position and
    end with the end id.

    Attributes:
        boundaries: The padded lengths of the buckets, ascending. A pair belongs
            to the first bucket that holds its longer side and the end id.
        max_tokens: The maximum number of positions on a side of a batch,
            padding included. A longer pair is a batch of its own.
        max_pairs: The maximum number of pairs in a batch. None sets no limit.
        short_targets: Whether targets are padded to the longest target of the
            bucket rather than to the length of its sources, which saves work
            if targets are much shorter.
        full_batches: Whether training leaves out batches that are not full,
            which are other pairs in each epoch, so that XLA compiles one shape
            for each bucket.
        multiple: The number of devices that share a batch. A full batch has as
            many pairs for each, at least one.
        special: The ids of padding, start and end.
    """

    boundaries: tuple[int, ...]
    max_tokens: int
    max_pairs: int | None = None
    short_targets: bool = False
    full_batches: bool = False
    multiple: int = 1
    special: SpecialIds = SPECIAL_IDS

    @classmethod
    def of(
        cls,
        pairs: EncodedPairs,
        max_tokens: int,
        max_pairs: int | None = None,
        buckets: int = BUCKETS,
        **options: Any,
    ) -> Batching:
        """Returns rules whose buckets have about the same number of pairs.

        All boundaries are multiples of eight. The last bucket holds the longest
        pair. The options are the other fields.
        """
        if not len(pairs):
            raise InputError(
                "Expected pairs to make batches of, got none. If a filter by "
                "length took them, allow longer ones."
            )
        shares = np.arange(1, buckets + 1) / buckets
        lengths = np.quantile(pairs.lengths, shares, method="higher")
        boundaries = sorted({_rounded_up(length) for length in lengths})
        return cls(tuple(boundaries), max_tokens, max_pairs, **options)

    def reaching(self, length: int) -> Batching:
        """Returns these rules, with another bucket if the length needs it."""
        if length <= self.boundaries[-1]:
            return self
        return replace(self, boundaries=(*self.boundaries, _rounded_up(length)))

    def __post_init__(self):
        lengths = self.boundaries
        if not lengths or list(lengths) != sorted({*lengths}) or lengths[0] < 1:
            raise ValueError(
                "Expected ascending lengths as `boundaries`. Received: "
                f"{lengths}"
            )
        for name in ("max_tokens", "max_pairs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"Expected `{name}` of at least 1. Received: {value}"
                )

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The number of pairs in a full batch of each bucket."""
        limit = self.max_pairs or self.max_tokens
        sizes = (
            min(self.max_tokens // boundary, limit)
            for boundary in self.boundaries
        )
        return tuple(
            max(size // self.multiple, 1) * self.multiple for size in sizes
        )

    def steps_per_epoch(self, pairs: EncodedPairs) -> int:
        """Returns the number of batches of `pairs`, in any order."""
        counts = Counter(np.searchsorted(self.boundaries, pairs.lengths))
        return sum(
            counts[bucket] // size
            if self.full_batches
            else -(-counts[bucket] // size)
            for bucket, size in enumerate(self.batch_sizes)
        )

    def training_batches(
        self, pairs: EncodedPairs, seed: int, epoch: Callable[[], int]
    ) -> Batches:
        """Returns batches with each pair once per epoch, in a new order each.

        The order depends on the seed and on what `epoch` returns, the number of
        the epoch, so that a resumed run continues in the same order.
        """
        buckets = self._buckets(pairs)

        def plan(number):
            generator = np.random.default_rng((seed, number))
            batches = self._chosen(
                [generator.permutation(len(rows[1])) for rows in buckets],
                self.full_batches,
            )
            # Without this permutation, batches of short sentences and batches
            # that are not full would be adjacent.
            return [batches[i] for i in generator.permutation(len(batches))]

        return Batches(buckets, plan, epoch)

    def evaluation_batches(self, pairs: EncodedPairs) -> Batches:
        """Returns batches in a fixed order: by bucket, then as in `pairs`."""
        buckets = self._buckets(pairs)
        orders = [np.arange(len(labels)) for _, labels in buckets]
        return Batches(buckets, lambda _: self._chosen(orders))

    def _buckets(self, pairs: EncodedPairs) -> list[Rows]:
        bucket_of = np.searchsorted(self.boundaries, pairs.lengths)
        longer = np.flatnonzero(bucket_of == len(self.boundaries))
        if len(longer):
            raise ValueError(
                f"Expected pairs of at most {self.boundaries[-1]} subwords "
                f"with EOS. Received: {len(longer)} longer ones, of "
                f"{pairs.lengths[longer].max()} at most"
            )
        rows = []
        for bucket, length in enumerate(self.boundaries):
            chosen = pairs.at(np.flatnonzero(bucket_of == bucket))
            target_length = length
            if self.short_targets:
                longest = max(map(len, chosen.targets), default=0)
                target_length = _rounded_up(longest + 1)
            rows.append(_rows(chosen, length, target_length, self.special))
        return rows

    def _chosen(
        self, orders: list[np.ndarray], full: bool = False
    ) -> list[Chosen]:
        return [
            (bucket, order[start : start + size])
            for bucket, (order, size) in enumerate(
                zip(orders, self.batch_sizes)
            )
            for start in range(0, len(order) - full * (size - 1), size)
        ]


def _rounded_up(length: int) -> int:
    return -(-int(length) // MULTIPLE) * MULTIPLE


def _rows(
    pairs: EncodedPairs,
    source_length: int,
    target_length: int,
    special: SpecialIds,
) -> Rows:
    """Pads sources and targets to one length each, once for all epochs."""
    pad, start, end = special
    sources, targets, labels = (
        np.full((len(pairs), length), pad, "int32")
        for length in (source_length, target_length, target_length)
    )
    for row, (source, target) in enumerate(zip(pairs.sources, pairs.targets)):
        sources[row, : len(source) + 1] = [*source, end]
        targets[row, : len(target) + 1] = [start, *target]
        labels[row, : len(target) + 1] = [*target, end]
    return {"source_ids": sources, "target_ids": targets}, labels
