"""A constraint against repeated n-grams in generated text."""

from __future__ import annotations

import keras

from reproduce.decoding.beam_search import NEVER
from reproduce.decoding.beam_search import Constraint

ops = keras.ops


def no_repeated_ngrams(size: int) -> Constraint:
    """Returns a constraint for `beam_search` that forbids repeated n-grams.

    As with fairseq's `no-repeat-ngram-size`, a token is forbidden if it would
    complete an n-gram that the hypothesis already contains. Size 0 forbids
    nothing.
    """

    def constrain(log_probabilities, ids, index):
        if not size:
            return log_probabilities
        time = ids.shape[-1]
        batch_and_beam = ops.shape(ids)[:2]
        # N-grams start at every position. Those that extend beyond the ids so
        # far contain padding and are excluded by their end.
        starts = ops.arange(time)
        ends = starts + size - 1
        repeats = ops.logical_and(ends < index, index >= size - 1)
        repeats = ops.broadcast_to(repeats, (*batch_and_beam, time))
        for offset in range(size - 1):
            # Compare the n-gram with the last ids, position by position.
            here = ops.take(
                ids, ops.minimum(starts + offset, time - 1), axis=-1
            )
            last = ops.maximum(index - (size - 1) + offset, 0)
            there = ops.take(ids, last, axis=-1)[..., None]
            repeats = ops.logical_and(repeats, here == there)
        completed = ops.take(ids, ops.minimum(ends, time - 1), axis=-1)
        # Positions without a repetition map to one id past the vocabulary.
        places = log_probabilities.shape[-1] + 1
        completed = ops.where(repeats, completed, places - 1)
        rows = ops.reshape(completed, (-1, time))
        first = ops.arange(ops.shape(rows)[0])[:, None] * places
        indices = ops.reshape(first + rows, (-1, 1))
        # A comparison of every position with the whole vocabulary would take
        # as much memory as the logits of a training batch.
        forbidden = ops.scatter(
            indices,
            ops.ones_like(indices[:, 0]),
            (ops.shape(rows)[0] * places,),
        )
        forbidden = ops.reshape(forbidden > 0, (*batch_and_beam, places))
        return ops.where(forbidden[..., :-1], NEVER, log_probabilities)

    return constrain
