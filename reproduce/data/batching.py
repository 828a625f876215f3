"""Batches of about as many tokens, whatever the lengths of the texts.

Pairs of similar length share a bucket, and so a batch: `max_tokens` divided by
the length to which the bucket pads is its number of pairs. All batches of a
bucket but its last have one shape, so that XLA compiles few.
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
from reproduce.data.planned import Batches
from reproduce.data.planned import Chosen
from reproduce.decoding.beam_search import SPECIAL_IDS
from reproduce.decoding.beam_search import SpecialIds

# Lengths are rounded up to these, at which matrix units run at full rate.
MULTIPLE = 8


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
        return EncodedPairs(
            tuple(self.sources[index] for index in indices),
            tuple(self.targets[index] for index in indices),
        )

    @property
    def lengths(self) -> np.ndarray:
        """What a pair takes of a batch: its longer side and the end."""
        return 1 + np.array(
            [max(map(len, pair)) for pair in zip(self.sources, self.targets)],
            "int64",
        )


@dataclass(frozen=True)
class Batching:
    """How pairs are put into batches.

    A batch is `({"source_ids", "target_ids"}, labels)`, each int32 of shape
    `(pairs, length)` and padded: sources end with the end, targets begin with
    the start, and labels are the targets one step on, ending with the end.

    Attributes:
        boundaries: The lengths that buckets pad to, ascending. A pair belongs
            to the first that holds its longer side and the end.
        max_tokens: The most positions that a side of a batch may have, padding
            included. A pair that alone has more is a batch of its own.
        max_pairs: The most pairs in a batch, if there is such a limit.
        short_targets: Whether targets are padded to the longest target of
            the bucket, not to the length of its sources: for targets that are
            far shorter.
        special: The ids of padding, start and end.
    """

    boundaries: tuple[int, ...]
    max_tokens: int
    max_pairs: int | None = None
    short_targets: bool = False
    special: SpecialIds = SPECIAL_IDS

    @classmethod
    def of(
        cls,
        pairs: EncodedPairs,
        max_tokens: int,
        max_pairs: int | None = None,
        **options: Any,
    ) -> Batching:
        """Chooses boundaries so that every bucket gets about as many pairs.

        They are multiples of eight, at most eight of them, and the last one
        holds the longest pair.

        Args:
            pairs: The training pairs.
            max_tokens: As for `Batching`.
            max_pairs: As for `Batching`.
            **options: As for `Batching`.

        Raises:
            InputError: If there are no pairs.
        """
        if not len(pairs):
            raise InputError(
                "Expected pairs to make batches of, got none. If a filter by "
                "length took them, allow longer ones."
            )
        shares = np.arange(1, BUCKETS + 1) / BUCKETS
        lengths = np.quantile(pairs.lengths, shares, method="higher")
        boundaries = sorted({_rounded_up(length) for length in lengths})
        return cls(tuple(boundaries), max_tokens, max_pairs, **options)

    def reaching(self, length: int) -> Batching:
        """Returns this with another bucket, if it needs one for a length."""
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
        """How many pairs a full batch of each bucket has."""
        limit = self.max_pairs or self.max_tokens
        return tuple(
            min(max(self.max_tokens // boundary, 1), limit)
            for boundary in self.boundaries
        )

    def fitting(self, pairs: EncodedPairs) -> tuple[EncodedPairs, int]:
        """Returns the pairs for which there is a bucket, and how many others
        there are.
        """
        fits = np.flatnonzero(pairs.lengths <= self.boundaries[-1])
        return pairs.at(fits), len(pairs) - len(fits)

    def steps_per_epoch(self, pairs: EncodedPairs) -> int:
        """How many batches `pairs` make, in any order."""
        counts = Counter(np.searchsorted(self.boundaries, pairs.lengths))
        return sum(
            -(-counts[bucket] // size)
            for bucket, size in enumerate(self.batch_sizes)
        )

    def training_batches(
        self, pairs: EncodedPairs, seed: int, epoch: Callable[[], int]
    ) -> Batches:
        """Batches that hold each pair once per epoch, in a new order each.

        Args:
            pairs: All of which must fit, see `fitting`.
            seed: What, with the epoch, settles the order: of the pairs, and
                so which of them meet, and of the batches.
            epoch: Returns the number of the epoch that runs. A resumed run
                goes on in the order of a run that was never interrupted.
        """
        buckets = self._buckets(pairs)

        def plan(number):
            generator = np.random.default_rng((seed, number))
            batches = self._chosen(
                [generator.permutation(len(rows[1])) for rows in buckets]
            )
            # Else the short sentences, and the batches that are not full,
            # would all come together.
            return [batches[i] for i in generator.permutation(len(batches))]

        return Batches(buckets, plan, epoch)

    def evaluation_batches(self, pairs: EncodedPairs) -> Batches:
        """Batches that are always the same: short pairs first, each bucket in
        the order of `pairs`.
        """
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
                f"{pairs.lengths[longer].max()} at most. `fitting` leaves "
                "them out"
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

    def _chosen(self, orders: list[np.ndarray]) -> list[Chosen]:
        return [
            (bucket, order[start : start + size])
            for bucket, (order, size) in enumerate(
                zip(orders, self.batch_sizes)
            )
            for start in range(0, len(order), size)
        ]


def _rounded_up(length: int) -> int:
    return -(-int(length) // MULTIPLE) * MULTIPLE


def _rows(
    pairs: EncodedPairs,
    source_length: int,
    target_length: int,
    special: SpecialIds,
) -> Rows:
    """Pads to one length each, once for all epochs."""
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
