"""A training step with R-Drop, against a plain step on the doubled batch.

    python -m benchmarks.step --output step.json --plot step.png

The arms are a plain Keras step; one on the batch repeated twice, which is what
the paper compares its cost with; R-Drop as it is mostly written for Keras, with
`keras.losses.kl_divergence` of probabilities, in a step of its own; and this
library's, with what it can be told. They take turns, step by step in one
process, so that what else the machine does falls on all of them; ratios are of
medians to the doubled batch. Compilation is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from benchmarks.models import CASES
from benchmarks.models import Case
from benchmarks.models import loss
from rdrop_keras import RDrop

ALPHA = 5.0
BASE = "doubled batch"
ARMS: dict[str, RDrop | None] = {
    "plain": None,
    BASE: None,
    "naive Keras": None,
    "calls, terms apart": RDrop(ALPHA, passes="calls", fused=False),
    "calls": RDrop(ALPHA, passes="calls"),
    "concat": RDrop(ALPHA, passes="concat"),
    "shared prefix": RDrop(ALPHA, passes="shared_prefix"),
    "calls, chunks": RDrop(ALPHA, passes="calls", vocabulary_chunk="auto"),
}


def arms_of(case: Case) -> dict[str, RDrop | None]:
    """Returns the arms that a model has."""
    arms = dict(ARMS)
    if not case.chunks:
        del arms["calls, chunks"]
    if isinstance(case.x, dict):
        # Dropout follows the embeddings: there is nothing to share.
        del arms["shared prefix"]
    return arms


def step_of(
    case: Case, arm: str, rdrop: RDrop | None, jit_compile: bool
) -> Callable[[], Any]:
    """Returns one compiled training step that has run once."""
    model = case.build()
    model.compile(
        keras.optimizers.SGD(1e-3), loss(), rdrop=rdrop, jit_compile=jit_compile
    )
    x, y = tf.nest.map_structure(tf.constant, (case.x, case.y))
    if arm == BASE:
        x, y = tf.nest.map_structure(
            lambda leaf: tf.concat([leaf, leaf], axis=0), (x, y)
        )
    if arm == "naive Keras":
        step = naive_step(model, x, y, jit_compile)
    else:

        def step():
            return model.train_on_batch(x, y)

    step()
    return step


def naive_step(
    model: keras.Model, x: Any, y: Any, jit_compile: bool
) -> Callable[[], Any]:
    """Returns the step that most tutorials write."""
    crossentropy = loss()
    divergence = keras.losses.kl_divergence
    model(x)
    model.optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            logits = [model(x, training=True) for _ in range(2)]
            task = sum(crossentropy(y, z) for z in logits) / 2
            p, q = (keras.ops.softmax(z) for z in logits)
            values = (divergence(p, q) + divergence(q, p)) / 2
            total = task + ALPHA / 2 * keras.ops.mean(values)
        gradients = tape.gradient(total, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)
        return total

    return lambda: step().numpy()


def measure(
    case: Case, repeats: int, jit_compile: bool
) -> dict[str, list[float]]:
    """Returns the seconds of each step, by arm."""
    steps = {
        arm: step_of(case, arm, rdrop, jit_compile)
        for arm, rdrop in arms_of(case).items()
    }
    seconds: dict[str, list[float]] = {arm: [] for arm in steps}
    for _ in range(repeats):
        for arm, step in steps.items():
            started = time.perf_counter()
            step()
            seconds[arm].append(time.perf_counter() - started)
    return seconds


def rows_of(
    name: str, jit_compile: bool, seconds: dict[str, list[float]]
) -> list[dict[str, Any]]:
    """Returns what there is to say about each arm."""
    rows = []
    base = statistics.median(seconds[BASE])
    for arm, values in seconds.items():
        # Each by the turn's own, which both had the same machine for.
        ratios = [a / b for a, b in zip(values, seconds[BASE])]
        low, _, high = statistics.quantiles(ratios, n=4)
        rows.append(
            {
                "model": name,
                "xla": jit_compile,
                "arm": arm,
                "ratio": statistics.median(values) / base,
                "quartiles": [low, high],
                "seconds": values,
            }
        )
    return rows


def print_rows(rows: list[dict[str, Any]]) -> None:
    """Prints a table."""
    table = Table(title=f"training step, ratio to {BASE}")
    for title in ("model", "XLA", "arm", "ratio", "quartiles", "milliseconds"):
        table.add_column(title)
    for row in rows:
        low, high = row["quartiles"]
        table.add_row(
            row["model"],
            "on" if row["xla"] else "off",
            row["arm"],
            f"{row['ratio']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{1000 * statistics.median(row['seconds']):.0f}",
        )
    Console().print(table)


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the ratios, a panel for each model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = list(dict.fromkeys(row["model"] for row in rows))
    figure, axes = plt.subplots(
        1, len(models), figsize=(3.2 * len(models), 3.6), squeeze=False
    )
    for axis, model in zip(axes[0], models):
        arms = [
            arm
            for arm in ARMS
            if any(row["arm"] == arm and row["model"] == model for row in rows)
        ]
        for xla, shift in ((False, -0.2), (True, 0.2)):
            found = {
                row["arm"]: row
                for row in rows
                if row["model"] == model and row["xla"] == xla
            }
            if found:
                axis.barh(
                    [arms.index(arm) + shift for arm in found],
                    [row["ratio"] for row in found.values()],
                    0.38,
                    label="XLA" if xla else "no XLA",
                )
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_yticks(range(len(arms)), arms, fontsize=7)
        axis.invert_yaxis()
        axis.set_title(model, fontsize=9)
    axes[0][0].legend(fontsize=7)
    figure.supxlabel(f"time of a step / that of the {BASE}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--models", nargs="+", choices=list(CASES), default=list(CASES)
    )
    parser.add_argument(
        "--xla", choices=["off", "on"], nargs="+", default=["off", "on"]
    )
    parser.add_argument("--output", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    flags = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in flags.models:
        for xla in flags.xla:
            keras.utils.clear_session()
            seconds = measure(CASES[name](), flags.repeats, xla == "on")
            rows += rows_of(name, xla == "on", seconds)
    print_rows(rows)
    if flags.output:
        machine = {
            "processors": os.cpu_count(),
            "machine": platform.machine(),
            "gpus": len(tf.config.list_physical_devices("GPU")),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
        }
        text = json.dumps({"machine": machine, "rows": rows}, indent=2)
        flags.output.write_text(text + "\n")
    if flags.plot:
        plot(rows, flags.plot)


if __name__ == "__main__":
    main()
