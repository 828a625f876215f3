"""Blocks of a stream: what the model sees at once, and what it predicts.

At each place the label is a token of the stream and the input is the one
before it; before the first there is `EOS`, as if a line had just ended. Every
token of the stream is the label of one place, and of one only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from reproduce.data.planned import Batches
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD


class Blocks(NamedTuple):
    """Blocks of one length, those that are shorter padded with `PAD`.

    Attributes:
        inputs: `(blocks, size)`.
        labels: `(blocks, size)`. `PAD` also where an input is only there for
            others to look at.
    """

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def training_blocks(ids: np.ndarray, size: int) -> Blocks:
    """Cuts a stream into contiguous blocks, the last one padded.

    Args:
        ids: The stream, `(tokens,)`.
        size: How many tokens a block has.
    """
    rows = -(-len(ids) // size)
    padding = (0, rows * size - len(ids))

    def cut(stream):
        return np.pad(stream, padding, constant_values=PAD).reshape(rows, size)

    return Blocks(cut(np.concatenate([[EOS], ids[:-1]])), cut(ids))


def scoring_blocks(ids: np.ndarray, size: int, context: int) -> Blocks:
    """Cuts a stream so that each block begins with tokens of the one before.

    Args:
        ids: The stream, `(tokens,)`.
        size: How many tokens a block has at most, context included.
        context: How many of them are there to be looked at, and not labels;
            fewer at the beginning of the stream.

    Raises:
        ValueError: If nothing is left to be predicted.
    """
    if not 0 <= context < size:
        raise ValueError(
            "Expected a `context` from 0 on and below `size`. Received: "
            f"context={context}, size={size}."
        )
    new = size - context
    starts = range(0, len(ids), new)
    shape = (len(starts), size)
    inputs, labels = np.full(shape, PAD, "int32"), np.full(shape, PAD, "int32")
    before = np.concatenate([[EOS], ids[:-1]])
    for row, start in enumerate(starts):
        first, end = max(start - context, 0), min(start + new, len(ids))
        inputs[row, : end - first] = before[first:end]
        labels[row, start - first : end - first] = ids[start:end]
    return Blocks(inputs, labels)


def training_batches(
    blocks: Blocks, batch_size: int, seed: int, epoch: Callable[[], int]
) -> Batches:
    """Batches that hold each block once per epoch, in a new order each.

    Args:
        blocks: What `training_blocks` returned.
        batch_size: How many make a batch.
        seed: What, with the epoch, settles the order.
        epoch: Returns the number of the epoch that runs. A resumed run goes
            on in the order of one that was never interrupted.
    """

    def plan(number):
        order = np.random.default_rng((seed, number)).permutation(len(blocks))
        starts = range(0, len(order), batch_size)
        return [(0, order[start : start + batch_size]) for start in starts]

    return Batches([tuple(blocks)], plan, epoch)


def steps_per_epoch(blocks: Blocks, batch_size: int) -> int:
    """How many batches blocks make."""
    return -(-len(blocks) // batch_size)
