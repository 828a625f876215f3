"""A training step with the prefix shared, against a plain step.

    python -m benchmarks.prefix --output prefix.json

A convolutional network with dropout in its head: what comes before the dropout
is nearly all of the work. The arms take turns, step by step, so that what else
the machine does falls on all of them; ratios are of medians. Compilation is
not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from rdrop_keras import RDrop
from rdrop_keras import RDropModel

BATCH_SIZE, CLASSES = 32, 10
ARMS = {
    "plain": None,
    "calls": RDrop(1.0, passes="calls"),
    "concat": RDrop(1.0, passes="concat"),
    "shared_prefix": RDrop(1.0, passes="shared_prefix"),
}


def build() -> RDropModel:
    """Returns six convolutions and a head with dropout."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for filters in (16, 32, 64):
        for _ in range(2):
            x = keras.layers.Conv2D(
                filters, 3, padding="same", activation="relu"
            )(x)
        x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    x = keras.layers.Dropout(0.5)(x)
    return RDropModel(inputs, keras.layers.Dense(CLASSES)(x))


def steps(jit_compile: bool) -> dict[str, Callable[[], None]]:
    """Returns one training step of each arm, compiled."""
    random = np.random.default_rng(0)
    x = tf.constant(random.normal(size=(BATCH_SIZE, 32, 32, 3)), "float32")
    y = tf.constant(random.integers(0, CLASSES, BATCH_SIZE))
    made = {}
    for arm, rdrop in ARMS.items():
        model = build()
        model.compile(
            "sgd",
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            rdrop=rdrop,
            jit_compile=jit_compile,
        )
        made[arm] = lambda model=model: model.train_on_batch(x, y)
        made[arm]()
    return made


def measure(repeats: int, jit_compile: bool) -> dict[str, list[float]]:
    """Returns the seconds of each step, by arm."""
    made = steps(jit_compile)
    seconds: dict[str, list[float]] = {arm: [] for arm in made}
    for _ in range(repeats):
        for arm, step in made.items():
            started = time.perf_counter()
            step()
            seconds[arm].append(time.perf_counter() - started)
    return seconds


def main() -> None:
    """Measures, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--output", type=Path, metavar="FILE")
    flags = parser.parse_args()
    table = Table(title="training step, ratio to plain")
    for title in ("XLA", "arm", "ratio", "quartiles", "milliseconds"):
        table.add_column(title)
    rows = []
    for jit_compile in (False, True):
        seconds = measure(flags.repeats, jit_compile)
        plain = statistics.median(seconds["plain"])
        for arm, values in seconds.items():
            ratios = [value / plain for value in values]
            low, middle, high = statistics.quantiles(ratios, n=4)
            row = {"xla": jit_compile, "arm": arm, "ratio": middle}
            rows.append(row | {"quartiles": [low, high], "seconds": values})
            table.add_row(
                "on" if jit_compile else "off",
                arm,
                f"{middle:.2f}",
                f"{low:.2f} to {high:.2f}",
                f"{1000 * plain * middle:.1f}",
            )
    Console().print(table)
    if flags.output:
        machine = {
            "processors": os.cpu_count(),
            "gpus": len(tf.config.list_physical_devices("GPU")),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }
        text = json.dumps({"machine": machine, "rows": rows}, indent=2)
        flags.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
