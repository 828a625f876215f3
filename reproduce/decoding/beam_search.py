"""Beam search over any model that returns log-probabilities step by step.

All functions also run inside a `tf.function`, with or without XLA, and in a
SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras

from reproduce.data.special_ids import SPECIAL_IDS
from reproduce.data.special_ids import SpecialIds

ops = keras.ops

# `(ids, index, state) -> (log_probabilities, state)`.
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
# `(log_probabilities, ids, index) -> log_probabilities`.
Constraint = Callable[[Any, Any, Any], Any]

NEVER = float("-inf")


class Hypotheses(NamedTuple):
    """The hypotheses of a search for each sentence, best first.

    An empty slot, without a hypothesis, has length 0 and score -inf.

    Attributes:
        ids: The ids with the end id and padding, without the start id,
            `(batch, beam, time)`.
        scores: The sums of log-probabilities divided by
            `lengths ** length_penalty`, `(batch, beam)`.
        lengths: The number of ids, the end id included, `(batch, beam)`.
    """

    ids: Any
    scores: Any
    lengths: Any


class _Search(NamedTuple):
    """The state between two steps; `ids` and `scores` are unfinished."""

    index: Any
    ids: Any
    scores: Any
    tokens: Any
    finished: Hypotheses
    done: Any
    state: Any


def beam_search(
    step: Step,
    state: Any,
    max_lengths: Any,
    time: Any,
    beam_size: int,
    length_penalty: float = 1.0,
    min_length: int = 0,
    early_stopping: bool = False,
    special: SpecialIds = SPECIAL_IDS,
    constrain: Constraint | None = None,
) -> Hypotheses:
    """Searches for the sequences with the highest scores.

    At each step, the continuations of a sentence's hypotheses are ranked. Of
    the best `beam_size`, those that end are finished. The best `beam_size` of
    the others continue. A sentence is done when it has `beam_size` finished
    hypotheses and no continuing one can still beat the worst of them. At the
    maximum length, all hypotheses end. With one beam, this is greedy search,
    which is done at the first end id.

    Args:
        step: A function of the last ids, `(batch, beam)`, their index and the
            state. It returns log-probabilities `(batch, beam, vocabulary)`
            and the new state. At index 0 the ids are the start id.
        state: Any structure of tensors `(batch, beam, ...)`. It is reordered
            with the hypotheses.
        max_lengths: The maximum lengths without the end id, `(batch,)`.
        time: An upper bound of `max_lengths`: a number or, under XLA, a
            tensor that depends only on shapes.
        length_penalty: The exponent of the length by which scores are divided.
        min_length: The minimum length without the end id.
        early_stopping: Whether a sentence is done at `beam_size` finished
            hypotheses, as in fairseq, even if better ones might follow.
        constrain: A function of the log-probabilities of a step, the ids so
            far, `(batch, beam, time + 1)`, and the index of the step. It
            returns the log-probabilities to use. At the maximum length the
            end id is forced regardless.
    """
    check_at_least("beam_size", beam_size, 1)
    check_at_least("min_length", min_length, 0)
    early_stopping = early_stopping or beam_size == 1
    places = ops.arange(time + 1)
    batch_size = ops.shape(max_lengths)[0]

    def score(total, length):
        return total / ops.cast(length, "float32") ** length_penalty

    def advance(*search):
        search = _Search(*search)
        log_probabilities, state = step(
            search.tokens, search.index, search.state
        )
        best = _best_continuations(
            search,
            _allowed(
                log_probabilities,
                search,
                max_lengths,
                min_length,
                special,
                constrain,
            ),
            places,
            beam_size,
            special.end,
        )
        length = search.index + 1
        ended = best.ends[:, :beam_size] & ~search.done[:, None]
        finished = _merge(
            search.finished,
            Hypotheses(
                best.ids[:, :beam_size],
                ops.where(
                    ended, score(best.scores[:, :beam_size], length), NEVER
                ),
                ops.where(ended, length, 0),
            ),
            beam_size,
            special.pad,
        )
        scores, kept = ops.top_k(
            ops.where(best.ends, NEVER, best.scores), beam_size
        )
        # Sums of log-probabilities can only fall. The best one divided by the
        # most favorable length is therefore an upper bound.
        favourable = max_lengths + 1 if length_penalty >= 0 else length + 1
        worst = finished.scores[:, -1]
        done = score(scores[:, 0], favourable) <= worst
        if early_stopping:
            done = done | (worst > NEVER)
        return _Search(
            length,
            _select(best.ids, kept),
            scores,
            _select(best.tokens, kept),
            finished,
            search.done | done | (search.index >= max_lengths),
            _follow(state, _select(best.parents, kept), beam_size),
        )

    def unfinished(*search):
        return ops.logical_not(ops.all(_Search(*search).done))

    shape = (batch_size, beam_size)
    blank = ops.full((*shape, time + 1), special.pad, "int32")
    nothing = ops.full(shape, NEVER, "float32")
    search = _Search(
        index=ops.convert_to_tensor(0, "int32"),
        ids=blank,
        # All beams are equal at first, so only one of them is used.
        scores=ops.where(ops.arange(beam_size) == 0, 0.0, nothing),
        tokens=ops.full(shape, special.start, "int32"),
        finished=Hypotheses(blank, nothing, ops.zeros(shape, "int32")),
        done=ops.zeros((batch_size,), "bool"),
        state=state,
    )
    search = ops.while_loop(
        unfinished, advance, search, maximum_iterations=time + 1
    )
    return _Search(*search).finished


class _Continuations(NamedTuple):
    parents: Any
    tokens: Any
    ends: Any
    scores: Any
    ids: Any


def _allowed(
    log_probabilities, search, max_lengths, min_length, special, constrain
):
    vocabulary = ops.arange(log_probabilities.shape[-1])
    is_end = vocabulary == special.end
    must_end = (search.index >= max_lengths)[:, None, None]
    too_short = (search.index < min_length) & ~must_end
    never = vocabulary == special.pad
    if special.start != special.end:
        never = never | (vocabulary == special.start)
    forbidden = never | (must_end & ~is_end) | (too_short & is_end)
    if constrain is not None:
        # The constraint must not forbid the end id where it is forced.
        log_probabilities = ops.where(
            must_end,
            log_probabilities,
            constrain(log_probabilities, search.ids, search.index),
        )
    return ops.where(forbidden, NEVER, log_probabilities)


def _best_continuations(search, log_probabilities, places, beam_size, end):
    vocabulary = log_probabilities.shape[-1]
    totals = search.scores[:, :, None] + log_probabilities
    totals = ops.reshape(totals, (-1, beam_size * vocabulary))
    # At most `beam_size` of them end, so at least as many can continue.
    scores, flat = ops.top_k(totals, 2 * beam_size)
    parents, tokens = flat // vocabulary, flat % vocabulary
    ids = ops.where(
        places == search.index,
        tokens[:, :, None],
        _select(search.ids, parents),
    )
    ends = (tokens == end) & (scores > NEVER)
    return _Continuations(parents, tokens, ends, scores, ids)


def _merge(old, new, beam_size, pad):
    together = [ops.concatenate(pair, axis=1) for pair in zip(old, new)]
    ids, scores, lengths = together
    scores, best = ops.top_k(scores, beam_size)
    ids = ops.where((scores > NEVER)[:, :, None], _select(ids, best), pad)
    return Hypotheses(ids, scores, _select(lengths, best))


def _select(x, indices):
    """Gathers entries of axis 1, with separate indices for each sentence."""
    for _ in x.shape[2:]:
        indices = ops.expand_dims(indices, -1)
    return ops.take_along_axis(x, indices, axis=1)


def _follow(state, parents, beam_size):
    if beam_size == 1:
        return state
    first = ops.arange(ops.shape(parents)[0])[:, None] * beam_size
    rows = ops.reshape(first + parents, (-1,))

    def follow(leaf):
        shape = ops.shape(leaf)
        flat = ops.reshape(leaf, (-1, *shape[2:]))
        return ops.reshape(ops.take(flat, rows, axis=0), shape)

    return keras.tree.map_structure(follow, state)


def check_at_least(name: str, value: float, least: float) -> None:
    """Raises `ValueError` if an argument is below its minimum."""
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: {value}."
        )
