"""Beam search, and translation with it.

All of it is graph code: it runs as it is, in a `tf.function`, compiled by XLA
or not, and in a SavedModel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras

from examples.translation.configurations import BOS
from examples.translation.configurations import EOS
from examples.translation.configurations import PAD
from examples.translation.model import Transformer

ops = keras.ops

# `(ids, index, state) -> (log_probabilities, state)`.
Step = Callable[[Any, Any, Any], tuple[Any, Any]]

NEVER = float("-inf")


class Hypotheses(NamedTuple):
    """What a search found for each sentence, best first.

    A place for which there was no hypothesis has length 0 and score -inf.

    Attributes:
        ids: With `EOS` and then `PAD`, without `BOS`, `(batch, beam, time)`.
        scores: Sums of log-probabilities over `lengths ** length_penalty`,
            `(batch, beam)`.
        lengths: With `EOS`, `(batch, beam)`.
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
            them above 0, and the new state. At index 0 the ids are `BOS`.
        state: Of any structure, all of it `(batch, beam, ...)`. It follows
            the hypotheses from beam to beam.
        max_lengths: How long a hypothesis may be without `EOS`, `(batch,)`.
        time: No less than all of `max_lengths`, a number or, under XLA, a
            tensor that depends on shapes alone.
        beam_size: How many hypotheses to keep.
        length_penalty: The power of the length by which scores are divided.
        min_length: How long a hypothesis has to be without `EOS`, where
            `max_lengths` lets it.
        early_stopping: Whether a sentence is done at `beam_size` finished
            hypotheses, as in fairseq, though better ones might follow.

    Returns:
        `Hypotheses` of time `time + 1`.

    Raises:
        ValueError: If `beam_size` or `min_length` is out of range.
    """
    _check_at_least("beam_size", beam_size, 1)
    _check_at_least("min_length", min_length, 0)
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
            _allowed(log_probabilities, search.index, max_lengths, min_length),
            places,
            beam_size,
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
    blank = ops.full((*shape, time + 1), PAD, "int32")
    nothing = ops.full(shape, NEVER, "float32")
    search = _Search(
        index=ops.convert_to_tensor(0, "int32"),
        ids=blank,
        # All beams begin alike: only one of them counts.
        scores=ops.where(ops.arange(beam_size) == 0, 0.0, nothing),
        tokens=ops.full(shape, BOS, "int32"),
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


def _allowed(log_probabilities, index, max_lengths, min_length):
    vocabulary = ops.arange(log_probabilities.shape[-1])
    is_end = vocabulary == EOS
    must_end = (index >= max_lengths)[:, None, None]
    too_short = (index < min_length) & ~must_end
    forbidden = (
        (vocabulary == PAD)
        | (vocabulary == BOS)
        | (must_end & ~is_end)
        | (too_short & is_end)
    )
    return ops.where(forbidden, NEVER, log_probabilities)


def _best_continuations(search, log_probabilities, places, beam_size):
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
    ends = (tokens == EOS) & (scores > NEVER)
    return _Continuations(parents, tokens, ends, scores, ids)


def _merge(old, new, beam_size):
    together = [ops.concatenate(pair, axis=1) for pair in zip(old, new)]
    ids, scores, lengths = together
    scores, best = ops.top_k(scores, beam_size)
    ids = ops.where((scores > NEVER)[:, :, None], _select(ids, best), PAD)
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


def translate(
    model: Transformer,
    source_ids: Any,
    beam_size: int = 5,
    length_penalty: float = 1.0,
    max_length_factor: float = 1.2,
    max_length_offset: float = 10,
    min_length: int = 1,
    early_stopping: bool = False,
    cached: bool = True,
) -> Hypotheses:
    """Translates sentences by beam search.

    A translation of a sentence of n ids, padding left out, has at most
    `max_length_factor * n + max_length_offset` ids before its `EOS`.

    Args:
        model: The model.
        source_ids: Padded with `PAD` on the right, `(batch, source_time)`.
        beam_size: As in `beam_search`.
        length_penalty: As in `beam_search`.
        max_length_factor: See above.
        max_length_offset: See above.
        min_length: As in `beam_search`.
        early_stopping: As in `beam_search`.
        cached: Whether keys and values of earlier positions are kept. If not,
            each step runs the decoder on all positions, which is slower and
            comes to the same.

    Returns:
        `Hypotheses`.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check_at_least("max_length_factor", max_length_factor, 0)
    _check_at_least("max_length_offset", max_length_offset, 0)
    source_ids = ops.convert_to_tensor(source_ids, "int32")
    source_lengths = ops.sum(ops.cast(source_ids != PAD, "int32"), axis=1)

    def max_length(source_length):
        # 0.7 * 10 is 7, in any precision.
        return max_length_factor * source_length + max_length_offset + 1e-3

    time = ops.shape(source_ids)[1]
    if isinstance(time, int):
        time = int(max_length(time))
    else:
        time = ops.cast(max_length(ops.cast(time, "float32")), "int32")
    max_lengths = ops.cast(
        max_length(ops.cast(source_lengths, "float32")), "int32"
    )
    make = cached_step if cached else uncached_step
    step, state = make(model, source_ids, beam_size, time + 1)
    return beam_search(
        step,
        state,
        ops.minimum(max_lengths, time),
        time,
        beam_size,
        length_penalty,
        min_length,
        early_stopping,
    )


def cached_step(
    model: Transformer, source_ids: Any, beam_size: int, time: Any
) -> tuple[Step, Any]:
    """Returns a step for `beam_search`, and its first state.

    The state holds keys and values of all positions so far, `time` at most.
    The source's are computed once and shared by the beams of a sentence.
    """
    memory = model.encode(source_ids, training=False)
    source = model.source(memory, source_ids)

    def step(ids, index, cache):
        hidden, cache = model.decode_step(ids, index, cache, source)
        return _log_probabilities(model, hidden), cache

    batch_size = ops.shape(source_ids)[0]
    return step, model.empty_cache(batch_size, beam_size, time)


def uncached_step(
    model: Transformer,
    source_ids: Any,
    beam_size: int,
    time: Any,
    prefix_only: bool = False,
) -> tuple[Step, Any]:
    """Returns what `cached_step` does, of training's own computation.

    The state holds the ids so far. Each step runs the decoder on all of
    `time`, or, if `prefix_only`, on what there is, which XLA cannot compile.
    """
    memory = model.encode(source_ids, training=False)
    source = model.source(
        ops.repeat(memory, beam_size, axis=0),
        ops.repeat(source_ids, beam_size, axis=0),
    )

    def step(ids, index, past):
        places = ops.arange(ops.shape(past)[2])
        past = ops.where(places == index, ids[:, :, None], past)
        prefix = past[:, :, : index + 1] if prefix_only else past
        flat = ops.reshape(prefix, (-1, ops.shape(prefix)[2]))
        hidden = model.decode(flat, source, training=False)
        hidden = ops.take(hidden, index, axis=1)
        hidden = ops.reshape(hidden, (-1, beam_size, hidden.shape[-1]))
        return _log_probabilities(model, hidden), past

    shape = (ops.shape(source_ids)[0], beam_size, time)
    return step, ops.full(shape, PAD, "int32")


def _log_probabilities(model, hidden):
    return ops.log_softmax(model.logits(hidden))


def _check_at_least(name, value, least):
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: {value}."
        )
