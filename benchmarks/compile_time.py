"""Time of `compile()` and the first training step, minus that of a second.

    python -m benchmarks.compile_time --output results

The difference is the time of tracing and, if enabled, of compilation by XLA,
because the second step only computes. Every measurement has a fresh model,
which is built before the clock starts. The arms take turns in one process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence

import keras

from benchmarks.arms import CHUNKS
from benchmarks.arms import PLAIN
from benchmarks.arms import RDROP
from benchmarks.arms import SHARED
from benchmarks.arms import Unavailable
from benchmarks.arms import arms_of
from benchmarks.arms import batch_of
from benchmarks.arms import check_shares
from benchmarks.arms import compile_model
from benchmarks.arms import keras_model
from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import seconds_of
from benchmarks.harness import take_turns
from benchmarks.models import CASES
from benchmarks.models import Case
from benchmarks.models import case_of
from benchmarks.report import Report
from benchmarks.step import add_arms

COMPARED = [PLAIN, "auto", "calls", "concat", SHARED, CHUNKS]
QUICK = {
    "repeats": 1,
    "models": ["cnn"],
    "arms": [PLAIN, "calls", "concat", SHARED],
    "jit": "off",
}


def first_step(case: Case, arm: str, jit_compile: bool) -> Callable[[], float]:
    """Returns a function that measures a model's first step in seconds.

    The time includes `compile()` and excludes the time of a second step.
    """

    def run():
        keras.utils.clear_session()
        model = keras_model(case, arm)
        batch = batch_of(case, arm)
        started = time.perf_counter()
        compile_model(model, case, arm, jit_compile)
        model.train_on_batch(*batch)
        first = time.perf_counter() - started
        return first - seconds_of(lambda: model.train_on_batch(*batch))

    return run


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=5)
    add_arms(parser, list(CASES), COMPARED, [PLAIN, *RDROP])
    flags = parse(parser, arguments, QUICK)
    report = Report(
        "compile_time",
        "time of compile() and first step, less a second",
        "seconds",
        flags,
    )
    names = {PLAIN, *flags.arms}
    for name in flags.models:
        case = case_of(name, flags.quick)
        chosen = [arm for arm in arms_of(case) if arm in names]
        if SHARED in chosen:
            try:
                check_shares(case)
            except Unavailable as reason:
                report.skip(name, SHARED, str(reason))
                chosen.remove(SHARED)
        for jit_compile in JIT[flags.jit]:
            first_steps = {
                arm: first_step(case, arm, jit_compile) for arm in chosen
            }
            seconds = take_turns(
                first_steps, flags.repeats, warm_up=1, measure=lambda run: run()
            )
            report.add(name, jit_compile, PLAIN, seconds)
    report.finish()


if __name__ == "__main__":
    main()
