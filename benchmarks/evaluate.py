"""`evaluate` and `predict` of a model with R-Drop, compared with plain Keras.

    python -m benchmarks.evaluate --output results

Results and times should be equal, because R-Drop affects training only. The
model with R-Drop has already made a training step, so that any state left by
training is present. Both models have the same weights and take turns in one
process. The benchmark checks that their results are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.arms import PLAIN
from benchmarks.arms import batch_of
from benchmarks.arms import compile_model
from benchmarks.arms import keras_model
from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.models import CASES
from benchmarks.models import Case
from benchmarks.models import case_of
from benchmarks.report import Report

RDROP = "auto"
QUICK = {"repeats": 2, "models": ["cnn"], "batches": 2, "jit": "off"}


def runs_of(
    case: Case, batches: int, jit_compile: bool
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Returns the functions to time, by method and arm."""
    trained = keras_model(case, RDROP)
    compile_model(trained, case, RDROP, jit_compile)
    x, y = batch_of(case, RDROP)
    trained.train_on_batch(x, y)
    plain = keras_model(case, PLAIN)
    compile_model(plain, case, PLAIN, jit_compile)
    plain.set_weights(trained.get_weights())
    data = tf.data.Dataset.from_tensors((x, y)).repeat(batches).cache()
    inputs = data.map(lambda x, y: x).cache()

    def evaluate(model):
        return lambda: model.evaluate(data, verbose=0)

    def predict(model):
        return lambda: model.predict(inputs, verbose=0)

    return {
        method.__name__: {PLAIN: method(plain), "R-Drop": method(trained)}
        for method in (evaluate, predict)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=20)
    add = parser.add_argument
    add("--models", nargs="+", choices=list(CASES), default=list(CASES))
    add("--batches", type=int, default=8, help="of each call")
    flags = parse(parser, arguments, QUICK)
    report = Report("evaluate", "time of a call", "seconds", flags)
    for name in flags.models:
        case = case_of(name, flags.quick)
        for jit_compile in JIT[flags.jit]:
            keras.utils.clear_session()
            runs = runs_of(case, flags.batches, jit_compile)
            for method, arms in runs.items():
                plain, trained = (run() for run in arms.values())
                np.testing.assert_allclose(
                    trained, plain, rtol=1e-4, atol=1e-5, err_msg=method
                )
                seconds = take_turns(arms, flags.repeats)
                report.add(f"{name}: {method}", jit_compile, PLAIN, seconds)
    report.finish()


if __name__ == "__main__":
    main()
