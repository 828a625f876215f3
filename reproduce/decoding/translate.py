"""Translation by beam search.

All of it is graph code: it runs as it is, in a `tf.function`, compiled by XLA
or not, and in a SavedModel.
"""

from __future__ import annotations

from typing import Any

import keras

from reproduce.data.special_ids import PAD
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.beam_search import Step
from reproduce.decoding.beam_search import beam_search
from reproduce.decoding.beam_search import check_at_least
from reproduce.models.translation import Transformer

ops = keras.ops


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
    check_at_least("max_length_factor", max_length_factor, 0)
    check_at_least("max_length_offset", max_length_offset, 0)
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
