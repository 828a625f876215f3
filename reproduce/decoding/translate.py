"""Translation by beam search.

All functions also run inside a `tf.function`, with or without XLA, and in a
SavedModel.
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

    The translation of a sentence with n ids (without padding) has at most
    `max_length_factor * n + max_length_offset` ids before its `EOS`.

    Args:
        model: The model.
        source_ids: The source ids, padded with `PAD` on the right,
            `(batch, source_time)`.
        beam_size: The beam size, as in `beam_search`.
        length_penalty: The length penalty, as in `beam_search`.
        max_length_factor: The factor of the maximum length; see above.
        max_length_offset: The offset of the maximum length; see above.
        min_length: The minimum length, as in `beam_search`.
        early_stopping: Whether to stop early, as in `beam_search`.
        cached: Whether keys and values of earlier positions are cached.
            Without the cache, each step runs the decoder on all positions,
            which is slower and gives the same result.

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
        # The margin keeps 0.7 * 10 from being rounded down to 6.
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
    """Returns a step for `beam_search`, and its initial state.

    The state holds keys and values of up to `time` positions. The keys and
    values of the source are computed once and shared by a sentence's beams.
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
    """Returns a step for `beam_search` without a cache, and its initial state.

    The state holds the ids so far. Each step runs the decoder, with the same
    computation as in training, on all of `time` or, if `prefix_only`, on the
    ids so far, which XLA cannot compile.
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
