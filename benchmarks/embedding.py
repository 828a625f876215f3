"""Time of an optimizer's update of an embedding from its sparse gradient.

    python -m benchmarks.embedding --output results

Two passes look up the tokens of a batch. Their frequencies follow Zipf's law,
so that many rows are repeated in the gradient. The arms are the gradient made
dense, as in this library's training step; the repeated rows merged by a segment
sum over the unique rows, which XLA cannot compile; and the unchanged gradient,
which Keras's adaptive optimizers handle incorrectly.
"""

from __future__ import annotations

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
from rdrop_keras.training.tensorflow import dense

OPTIMIZERS = ("Adam", "SGD")
DENSE = "dense"


def merged(gradient: tf.IndexedSlices, table: keras.Variable) -> Any:
    """Returns a gradient in which repeated rows are summed."""
    rows, places = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(
        gradient.values, places, tf.size(rows)
    )
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


ARMS: dict[str, Callable[[tf.IndexedSlices, keras.Variable], Any]] = {
    DENSE: dense,
    "merged": merged,
    "as it is": lambda gradient, table: gradient,
}


def step_of(
    arm: str,
    optimizer_name: str,
    shape: tuple[int, int],
    tokens: int,
    jit: bool,
) -> Callable[[], Any]:
    """Returns a function that updates a table once by an arm."""
    random = np.random.default_rng(0)
    ids = np.minimum(random.zipf(1.3, tokens), shape[0]) - 1
    table = keras.Variable(np.zeros(shape, "float32"))
    values = tf.random.normal((2 * tokens, shape[1]))
    gradient = tf.IndexedSlices(values, np.tile(ids, 2), tf.constant(shape))
    optimizer = getattr(keras.optimizers, optimizer_name)()
    optimizer.build([table])

    @tf.function(jit_compile=jit, autograph=False)
    def step():
        optimizer.apply([ARMS[arm](gradient, table)], [table])
        return optimizer.iterations.value

    return lambda: step().numpy()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=15)
    add = parser.add_argument
    add("--tokens", type=int, default=4096, help="of one pass")
    add("--vocabulary", type=int, default=32_000, help="rows of the table")
    add("--width", type=int, default=512, help="of the table")
    add("--optimizers", nargs="+", choices=OPTIMIZERS, default=OPTIMIZERS)
    quick = {"repeats": 2, "tokens": 16, "vocabulary": 64, "width": 8}
    flags = parse(parser, arguments, quick)
    report = Report("embedding", "time of an update", "seconds", flags)
    shape = (flags.vocabulary, flags.width)
    for jit_compile in JIT[flags.jit]:
        for name in flags.optimizers:
            steps = {
                arm: step_of(arm, name, shape, flags.tokens, jit_compile)
                for arm in ARMS
                if not (jit_compile and arm == "merged")
            }
            seconds = take_turns(steps, flags.repeats, warm_up=1)
            case = f"{name}, {flags.vocabulary} x {flags.width}"
            report.add(case, jit_compile, DENSE, seconds)
    report.finish()


if __name__ == "__main__":
    main()
