"""Generated text that repeats nothing."""

from __future__ import annotations

import keras

from reproduce.decoding.beam_search import NEVER
from reproduce.decoding.beam_search import Constraint

ops = keras.ops


def no_repeated_ngrams(size: int) -> Constraint:
    """Returns a constraint for `beam_search`: no run of ids is there twice.

    fairseq's `no-repeat-ngram-size`: a token is forbidden if it would complete
    a run of `size` ids that the hypothesis has already.

    Args:
        size: The length of the runs; 0 forbids nothing.
    """

    def constrain(log_probabilities, ids, index):
        if not size:
            return log_probabilities
        time = ids.shape[-1]
        batch_and_beam = ops.shape(ids)[:2]
        # Runs begin at every place; those that are not over by now hold
        # padding, and are left out by their end.
        starts = ops.arange(time)
        ends = starts + size - 1
        repeats = ops.logical_and(ends < index, index >= size - 1)
        repeats = ops.broadcast_to(repeats, (*batch_and_beam, time))
        for offset in range(size - 1):
            # What stands so far in the run, and so far in the last ids.
            here = ops.take(
                ids, ops.minimum(starts + offset, time - 1), axis=-1
            )
            last = ops.maximum(index - (size - 1) + offset, 0)
            there = ops.take(ids, last, axis=-1)[..., None]
            repeats = ops.logical_and(repeats, here == there)
        completed = ops.take(ids, ops.minimum(ends, time - 1), axis=-1)
        # What repeats nothing goes one place past the vocabulary.
        places = log_probabilities.shape[-1] + 1
        completed = ops.where(repeats, completed, places - 1)
        rows = ops.reshape(completed, (-1, time))
        first = ops.arange(ops.shape(rows)[0])[:, None] * places
        indices = ops.reshape(first + rows, (-1, 1))
        # Not compared with the whole vocabulary, time after time: that would
        # be as large as the logits of a whole batch in training.
        forbidden = ops.scatter(
            indices,
            ops.ones_like(indices[:, 0]),
            (ops.shape(rows)[0] * places,),
        )
        forbidden = ops.reshape(forbidden > 0, (*batch_and_beam, places))
        return ops.where(forbidden[..., :-1], NEVER, log_probabilities)

    return constrain
