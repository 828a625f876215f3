"""Blocks of a token stream: inputs of the model and the labels to predict.

At each position, the label is a token of the stream and the input is the token
before it. The input at the first position is `EOS`, as if a line had just
ended. Every token of the stream is the label of exactly one position.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD


class Blocks(NamedTuple):
    """Inputs and labels, `(blocks, size)`, padded with `PAD`.

    Labels are `PAD` where an input is only context.
    """

    inputs: np.ndarray
    labels: np.ndarray


def blocks_of(ids: np.ndarray, size: int, context: int = 0) -> Blocks:
    """Splits a stream so that each block begins with its previous tokens.

    Args:
        ids: The stream, `(tokens,)`.
        size: The maximum number of tokens in a block, context included.
        context: The number of these tokens that are context and not labels. The
            first blocks have less.
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
