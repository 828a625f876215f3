"""Summarization by beam search, as fairseq does it with BART.

All functions also run inside a `tf.function` and in a SavedModel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras

from reproduce.decoding.beam_search import NEVER
from reproduce.decoding.beam_search import Constraint
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.beam_search import SpecialIds
from reproduce.decoding.beam_search import Step
from reproduce.decoding.beam_search import beam_search
from reproduce.decoding.beam_search import check_at_least
from reproduce.decoding.repetition import no_repeated_ngrams
from reproduce.models.bart import RDropBartSeq2SeqLM

ops = keras.ops


@dataclass(frozen=True)
class Decoding:
    """Settings of the search for summaries.

    Lengths are numbers of ids with `<s>`, which is generated first, and without
    `</s>`, as fairseq's `max-len-b` and `min-len`.

    Attributes:
        beam_size: The beam size, as in `beam_search`. 1 is greedy search.
        length_penalty: The length penalty, as in `beam_search`.
        min_length: The minimum length.
        max_length: The maximum length.
        no_repeat_ngram_size: The length of n-grams that must not repeat. 0
            allows all repetitions.
        early_stopping: Whether to stop early, as in `beam_search`. Without it,
            a search with a length penalty above 1 rarely ends before
            `max_length`.
    """

    beam_size: int = 4
    length_penalty: float = 1.0
    min_length: int = 2
    max_length: int = 40
    no_repeat_ngram_size: int = 3
    early_stopping: bool = True


def summarize(
    model: RDropBartSeq2SeqLM,
    source_ids: Any,
    bos: int,
    special: SpecialIds,
    decoding: Decoding,
    cached: bool = True,
) -> Hypotheses:
    """Summarizes articles by beam search.

    Args:
        model: The model.
        source_ids: `<s> article </s>`, padded on the right, `(batch, time)`.
        bos: The id of `<s>`.
        special: The ids of padding, and of `</s>` as start and end.
        decoding: The settings of the search.
        cached: Whether keys and values of earlier positions are cached.
            Without the cache, each step runs the decoder on all positions,
            which is slower and gives the same result.

    Returns:
        `Hypotheses`, each beginning with `<s>`.

    Raises:
        ValueError: If a setting is out of range.
    """
    check_at_least("max_length", decoding.max_length, 1)
    check_at_least("no_repeat_ngram_size", decoding.no_repeat_ngram_size, 0)
    source_ids = ops.convert_to_tensor(source_ids, "int32")
    time = decoding.max_length
    make = cached_step if cached else uncached_step
    step, state = make(
        model, source_ids, special.pad, decoding.beam_size, time + 1
    )
    batch_size = ops.shape(source_ids)[0]
    return beam_search(
        step,
        state,
        ops.full((batch_size,), time, "int32"),
        time,
        decoding.beam_size,
        decoding.length_penalty,
        decoding.min_length,
        decoding.early_stopping,
        special,
        constraint(bos, decoding.no_repeat_ngram_size),
    )


def constraint(bos: int, no_repeat_ngram_size: int) -> Constraint:
    """Returns a constraint: `<s>` only at the start, and no repeated n-grams.

    Args:
        bos: The id of `<s>`.
        no_repeat_ngram_size: The length of n-grams, as in `Decoding`.
    """
    no_repetition = no_repeated_ngrams(no_repeat_ngram_size)

    def constrain(log_probabilities, ids, index):
        is_bos = ops.arange(log_probabilities.shape[-1]) == bos
        allowed = ops.where(index == 0, is_bos, ops.logical_not(is_bos))
        log_probabilities = no_repetition(log_probabilities, ids, index)
        return ops.where(allowed, log_probabilities, NEVER)

    return constrain


def cached_step(
    model: RDropBartSeq2SeqLM,
    source_ids: Any,
    pad: int,
    beam_size: int,
    time: int,
) -> tuple[Step, Any]:
    """Returns a step for `beam_search`, and its initial state.

    The state holds keys and values of up to `time` positions. The keys and
    values of the article are computed once and repeated for each beam, because
    KerasHub's decoder needs one copy per row.
    """
    visible = ops.cast(source_ids != pad, "int32")
    memory = model.call_encoder(source_ids, visible)
    backbone = model.backbone
    heads = backbone.num_heads
    sizes = (heads, backbone.hidden_dim // heads)

    def empty(*shape):
        return ops.zeros((*shape, *sizes), model.compute_dtype)

    batch_size, source_time = ops.shape(source_ids)
    layers = backbone.num_layers
    # This call only projects the memory. It uses two positions, because Keras
    # warns of a softmax over a single one.
    *_, article = model.call_decoder_with_cache(
        memory,
        visible,
        ops.full((batch_size, 2), pad, "int32"),
        empty(batch_size, layers, 2, 2),
        0,
        empty(batch_size, layers, 2, source_time),
        0,
    )

    def beams(x):
        return x if beam_size == 1 else ops.repeat(x, beam_size, axis=0)

    memory, visible, article = beams(memory), beams(visible), beams(article)

    def step(ids, index, cache):
        shape = ops.shape(cache)
        logits, _, cache, _ = model.call_decoder_with_cache(
            memory,
            visible,
            ops.reshape(ids, (-1, 1)),
            ops.reshape(cache, (-1, *shape[2:])),
            index,
            article,
            None,
        )
        logits = ops.reshape(logits, (-1, beam_size, logits.shape[-1]))
        return _log_probabilities(logits), ops.reshape(cache, shape)

    return step, empty(batch_size, beam_size, layers, 2, time)


def uncached_step(
    model: RDropBartSeq2SeqLM,
    source_ids: Any,
    pad: int,
    beam_size: int,
    time: int,
) -> tuple[Step, Any]:
    """Returns a step for `beam_search` without a cache, and its initial state.

    The state holds the ids so far. Each step runs the whole model on them, with
    the same computation as in training.
    """
    source_ids = ops.repeat(source_ids, beam_size, axis=0)
    visible = ops.cast(source_ids != pad, "int32")

    def step(ids, index, past):
        places = ops.arange(time)
        past = ops.where(places == index, ids[:, :, None], past)
        flat = ops.reshape(past, (-1, time))
        logits = model(
            {
                "encoder_token_ids": source_ids,
                "encoder_padding_mask": visible,
                "decoder_token_ids": flat,
                # Padding is on the right, and attention is causal.
                "decoder_padding_mask": ops.ones_like(flat),
            },
            training=False,
        )
        logits = ops.take(logits, index, axis=1)
        logits = ops.reshape(logits, (-1, beam_size, logits.shape[-1]))
        return _log_probabilities(logits), past

    shape = (ops.shape(source_ids)[0] // beam_size, beam_size, time)
    return step, ops.full(shape, pad, "int32")


def _log_probabilities(logits):
    return ops.log_softmax(ops.cast(logits, "float32"))
