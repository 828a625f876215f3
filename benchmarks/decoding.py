"""Decoding speed: cached keys and values against the whole prefix each step.

    python -m benchmarks.decoding --lengths 16 32 64 --output decoding.json

Beam search with random weights, held to exactly the given number of words by
its minimum and maximum length. All ways search alike; they take turns within
each repeat, so that what else the machine does falls on all of them. Without
XLA the uncached decoder runs on the prefix alone; with `--jit`, on all
positions, since XLA needs fixed shapes. Compilation is not timed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from examples.translation import decoding
from examples.translation.configurations import CONFIGURATIONS
from examples.translation.configurations import EOS
from examples.translation.configurations import UNK
from examples.translation.configurations import Configuration
from examples.translation.model import Transformer

# By name: vocabulary and model. Between "tiny" and "iwslt" is what two CPU
# cores decode in seconds.
SIZES = {
    "tiny": (2000, CONFIGURATIONS["tiny"]),
    "middle": (
        8000,
        Configuration(
            num_layers=3,
            width=256,
            feed_forward=512,
            num_heads=4,
            dropout=0.1,
            attention_dropout=0.0,
            activation_dropout=0.0,
        ),
    ),
    "iwslt": (10000, CONFIGURATIONS["iwslt"]),
}


def translate_exactly(
    model: Transformer, source_ids: Any, length: int, beam_size: int, way: str
) -> decoding.Hypotheses:
    """Searches for translations of `length` words."""
    settings = {"beam_size": beam_size, "min_length": length}
    if way == "uncached":
        step, state = decoding.uncached_step(
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
        cached=way.startswith("cached"),
        **settings,
    )


def measure(
    functions: dict[str, Callable[[], Any]], repeats: int
) -> dict[str, list[float]]:
    """Returns the seconds of each function, which take turns."""
    results = {name: function() for name, function in functions.items()}
    reference, *others = results.values()
    for other in others:
        # Not the same search, if they do not come to the same.
        np.testing.assert_allclose(other.scores, reference.scores, atol=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            np.array(function().scores)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def benchmark(
    size: str, length: int, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """Measures all ways for one model and length."""
    keras.utils.set_random_seed(arguments.seed)
    vocabulary_size, configuration = SIZES[size]
    model = Transformer(vocabulary_size, **dataclasses.asdict(configuration))
    rng = np.random.default_rng(arguments.seed)
    source_ids = rng.integers(
        UNK + 1, vocabulary_size, (arguments.batch_size, length)
    )
    source_ids[:, -1] = EOS
    source_ids = tf.constant(source_ids, tf.int32)

    def function(way):
        compiled = tf.function(
            lambda ids: translate_exactly(
                model, ids, length, arguments.beam_size, way
            ),
            jit_compile=way.endswith("XLA"),
        )
        return lambda: compiled(source_ids)

    ways = ["cached", "uncached"]
    if arguments.jit:
        ways += ["cached, XLA", "uncached, XLA"]
    seconds = measure({way: function(way) for way in ways}, arguments.repeats)
    words = arguments.batch_size * length
    rows = []
    for way in ways:
        # Of the same repeat, so that the machine's other load cancels out.
        times = seconds.get("un" + way)
        rows.append(
            {
                "size": size,
                "length": length,
                "way": way,
                "seconds": seconds[way],
                "median": statistics.median(seconds[way]),
                "words_per_second": words / statistics.median(seconds[way]),
                "speedup": times
                and statistics.median(
                    slow / fast for slow, fast in zip(times, seconds[way])
                ),
            }
        )
    return rows


def print_rows(rows: list[dict[str, Any]], title: str) -> None:
    """Prints a table: a way of decoding a row."""
    table = Table(title=title, title_justify="left")
    table.add_column("model")
    for column in ("words", "way", "seconds", "range", "words/s", "speedup"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        low, high = min(row["seconds"]), max(row["seconds"])
        speedup = row["speedup"]
        table.add_row(
            row["size"],
            str(row["length"]),
            row["way"],
            f"{row['median']:.3f}",
            f"{low:.3f}-{high:.3f}",
            f"{row['words_per_second']:.0f}",
            f"{speedup:.1f}x" if speedup else "",
        )
    table.caption = "medians; speedup of cached over uncached, pairwise"
    table.caption_justify = "left"
    Console().print(table)


def main() -> None:
    """Measures, prints, and writes what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", nargs="+", choices=SIZES, default=["tiny", "middle"]
    )
    parser.add_argument("--lengths", nargs="+", type=int, default=[16, 32, 64])
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--beam-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jit", action="store_true", help="also with XLA")
    parser.add_argument("--output", type=Path, help="a JSON file to write")
    arguments = parser.parse_args()
    rows = []
    for size in arguments.sizes:
        for length in arguments.lengths:
            rows += benchmark(size, length, arguments)
    title = (
        f"{arguments.batch_size} sentences, beam {arguments.beam_size}, "
        f"{arguments.repeats} repeats"
    )
    print_rows(rows, title)
    if arguments.output is not None:
        settings = vars(arguments) | {"output": str(arguments.output)}
        report = {
            "settings": settings,
            "machine": {
                "processors": os.cpu_count(),
                "gpus": len(tf.config.list_physical_devices("GPU")),
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
            },
            "rows": rows,
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(report, indent=2) + "\n"
        arguments.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
