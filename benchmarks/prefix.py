"""A training step with a shared prefix, compared with a plain step.

    python -m benchmarks.prefix --output results

In both models nearly all work precedes the first dropout: a convolutional
network with dropout in its head, and a frozen Vision Transformer with a
trainable head. The arms take turns, step by step in one process. Compilation is
not timed.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.arms import PLAIN
from benchmarks.arms import SHARED
from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.models import case_of
from benchmarks.report import Report
from benchmarks.step import add_arms
from benchmarks.step import measure

MODELS = ["cnn", "frozen"]
COMPARED = [PLAIN, "auto", "calls", "concat", SHARED]
QUICK = {"repeats": 2, "jit": "off"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=30)
    add_arms(parser, MODELS, COMPARED)
    flags = parse(parser, arguments, QUICK)
    report = Report("prefix", "time of a training step", "seconds", flags)
    arms = flags.arms if PLAIN in flags.arms else [PLAIN, *flags.arms]
    for name in flags.models:
        for jit_compile in JIT[flags.jit]:
            case = case_of(name, flags.quick)
            measure(report, name, case, arms, PLAIN, jit_compile, flags.repeats)
    report.finish()


if __name__ == "__main__":
    main()
