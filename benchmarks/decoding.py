"""Decoding speed with cached keys and values, and without a cache.

    python -m benchmarks.decoding --lengths 16 32 64 --output results

The benchmark runs beam search with random weights, for exactly the given number
of words (its minimum and maximum length). It checks that all methods find the
same scores. They take turns in one process. Without XLA, the uncached decoder
runs on the prefix only; with XLA, on all positions, because XLA needs fixed
shapes. Compilation is not timed.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.report import Report
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import UNK
from reproduce.decoding import translator as decoding
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.sizes import TranslationSizes
from reproduce.models.translation import Transformer

CACHED, UNCACHED = "cached", "uncached"
SEED = 0
# The vocabulary size and the model of each name. The size "middle" decodes in
# seconds on two CPU cores.
SIZES = {
    "tiny": (2000, TRANSLATION_SIZES["tiny"]),
    "middle": (
        8000,
        TranslationSizes(
            num_layers=3,
            width=256,
            feed_forward=512,
            num_heads=4,
            dropout=0.1,
            attention_dropout=0.0,
            activation_dropout=0.0,
        ),
    ),
    "iwslt": (10000, TRANSLATION_SIZES["iwslt"]),
}
QUICK = {
    "repeats": 2,
    "jit": "off",
    "sizes": ["tiny"],
    "lengths": [4],
    "batch_size": 2,
    "beam_size": 2,
}


def uncached_step(
    model: Transformer,
    source_ids: Any,
    beam_size: int,
    time: Any,
    prefix_only: bool = False,
) -> tuple[decoding.Step, Any]:
    """Returns a step for `beam_search` without a cache, and its initial state.

    The state holds the ids so far. Each step runs the decoder, with the same
    computation as in training, on all of `time` or, if `prefix_only`, on the
    ids so far, which XLA cannot compile.
    """
    ops = keras.ops
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
        return ops.log_softmax(model.logits(hidden)), past

    shape = (ops.shape(source_ids)[0], beam_size, time)
    return step, ops.full(shape, PAD, "int32")


def translate_exactly(
    model: Transformer, source_ids: Any, length: int, beam_size: int, way: str
) -> decoding.Hypotheses:
    """Searches for translations of `length` words.

    Args:
        model: The model.
        source_ids: The source ids, `(batch, source_time)`.
        length: The number of words.
        beam_size: The number of hypotheses.
        way: "cached", "uncached", or "prefix", which is uncached and runs the
            decoder on the prefix only.
    """
    settings = {"beam_size": beam_size, "min_length": length}
    if way == "prefix":
        step, state = uncached_step(
            model, source_ids, beam_size, length + 1, prefix_only=True
        )
        max_lengths = keras.ops.full((source_ids.shape[0],), length, "int32")
        return decoding.beam_search(
            step, state, max_lengths, length, **settings
        )
    return decoding.translate(
        model,
        source_ids,
        max_length_factor=0.0,
        max_length_offset=length,
        make_step=None if way == CACHED else uncached_step,
        **settings,
    )


def searches_of(
    size: str, length: int, flags: argparse.Namespace, jit_compile: bool
) -> dict[str, Callable[[], np.ndarray]]:
    """Returns the methods of search as functions that return scores."""
    keras.utils.set_random_seed(SEED)
    vocabulary_size, configuration = SIZES[size]
    model = Transformer(vocabulary_size, **dataclasses.asdict(configuration))
    random = np.random.default_rng(SEED)
    shape = (flags.batch_size, length)
    source_ids = random.integers(UNK + 1, vocabulary_size, shape)
    source_ids[:, -1] = EOS
    source_ids = tf.constant(source_ids, tf.int32)

    def search(way):
        compiled = tf.function(
            lambda ids: translate_exactly(
                model, ids, length, flags.beam_size, way
            ),
            jit_compile=jit_compile,
        )
        return lambda: np.array(compiled(source_ids).scores)

    uncached = UNCACHED if jit_compile else "prefix"
    return {CACHED: search(CACHED), UNCACHED: search(uncached)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=5, jit="off")
    add = parser.add_argument
    add("--sizes", nargs="+", choices=SIZES, default=["tiny", "middle"])
    add("--lengths", nargs="+", type=int, default=[16, 32, 64])
    add("--batch-size", type=int, default=4, help="sentences")
    add("--beam-size", type=int, default=4, help="hypotheses of a sentence")
    flags = parse(parser, arguments, QUICK)
    report = Report("decoding", "time of beam search", "seconds", flags)
    for size in flags.sizes:
        for length in flags.lengths:
            for jit_compile in JIT[flags.jit]:
                searches = searches_of(size, length, flags, jit_compile)
                cached, uncached = (search() for search in searches.values())
                # Different scores would mean different searches.
                np.testing.assert_allclose(uncached, cached, atol=1e-3)
                seconds = take_turns(searches, flags.repeats, warm_up=1)
                case = f"{size}, {length} words"
                report.add(case, jit_compile, CACHED, seconds)
    report.finish()


if __name__ == "__main__":
    main()
