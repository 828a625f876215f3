"""Beam search over any model that gives log-probabilities step by step.

All of it is graph code: it runs as it is, in a `tf.function`, compiled by XLA
or not, and in a SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras

from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD

ops = keras.ops

# `(ids, index, state) -> (log_probabilities, state)`.
Step = Callable[[Any, Any, Any], tuple[Any, Any]]
# `(log_probabilities, ids, index) -> log_probabilities`.
Constraint = Callable[[Any, Any, Any], Any]

NEVER = float("-inf")


class SpecialIds(NamedTuple):
    """The ids that mean something to a search, and to batches.

    Attributes:
        pad: What follows the end.
        start: What the decoder is given first.
        end: What ends a sequence; BART's decoder starts with it too.
    """

    pad: int = PAD
    start: int = BOS
    end: int = EOS


SPECIAL_IDS = SpecialIds()


class Hypotheses(NamedTuple):
    """What a search found for each sentence, best first.

    A place for which there was no hypothesis has length 0 and score -inf.

    Attributes:
        ids: With the end and then padding, without the start,
            `(batch, beam, time)`.
        scores: Sums of log-probabilities over `lengths ** length_penalty`,
            `(batch, beam)`.
        lengths: With the end, `(batch, beam)`.
    """

    ids: Any
    scores: Any
    lengths: Any


class _Search(NamedTuple):
    """The search between two steps; `scores` are those of `ids`, unfinished."""

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
    """Searches for the sequences of the highest score.

    At each step, the best `beam_size` continuations of a sentence's
    hypotheses are looked at: those that end are finished, and the others of
    the best go on. A sentence is done when none that goes on can still beat
    its worst finished one, if there are `beam_size` of them. At its maximum
    length it has to end. One beam is greedy search, and done at its first end.

    Args:
        step: Given the last ids, `(batch, beam)`, their index and the state,
            returns log-probabilities `(batch, beam, vocabulary)`, none of
            them above 0, and the new state. At index 0 the ids are the start.
        state: Of any structure, all of it `(batch, beam, ...)`. It follows
            the hypotheses from beam to beam.
        max_lengths: How long a hypothesis may be without its end, `(batch,)`.
        time: No less than all of `max_lengths`, a number or, under XLA, a
            tensor that depends on shapes alone.
        beam_size: How many hypotheses to keep.
        length_penalty: The power of the length by which scores are divided.
        min_length: How long a hypothesis has to be without its end, where
            `max_lengths` lets it.
        early_stopping: Whether a sentence is done at `beam_size` finished
            hypotheses, as in fairseq, though better ones might follow.
        special: The ids of padding, start and end.
        constrain: Given the log-probabilities of a step, the ids so far,
            `(batch, beam, time + 1)`, and the index of the step, returns the
            log-probabilities to use, `-inf` where a token is forbidden. The
            end is forced at the maximum length whatever it says.

    Returns:
        `Hypotheses` of time `time + 1`.

    Raises:
        ValueError: If `beam_size` or `min_length` is out of range.
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
        # Sums of log-probabilities only fall. What is left of the best of
        # them is its quotient by the most favourable length.
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
        # All beams begin alike: only one of them counts.
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
        # Not where the end is all that is left.
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
    # No more than `beam_size` of them end, so that as many go on.
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
    """Takes entries of axis 1, for each sentence others."""
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
    """Raises unless an argument is at least so large."""
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: {value}."
        )
