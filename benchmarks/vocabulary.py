"""Time of a vocabulary head's loss and gradients, with and without chunks.

    python -m benchmarks.vocabulary --output results

The inputs are the hidden states of two passes, a kernel and a bias; the outputs
are the loss and its gradients with respect to all of them. The arms are the
chunked function; the closed form over full logits; Keras's crossentropy with
this library's consistency in log space; Keras's crossentropy with
`keras.losses.kl_divergence` of probabilities, a usual Keras implementation; and
the formula of the paper's authors, in TensorFlow and, if installed, in PyTorch.
The arms take turns in one process. Compilation is not timed. For memory, see
`benchmarks.memory`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.head import CHUNKED
from benchmarks.head import Head
from benchmarks.head import available_arms
from benchmarks.head import step_of
from benchmarks.report import Report
from benchmarks.step import check_alike

SMALL = {"tokens": 16, "vocabulary": 64, "width": 8}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=7)
    add_head(parser)
    flags = parse(parser, arguments, {"repeats": 2, **SMALL})
    head = head_of(flags)
    report = Report(
        "vocabulary", "time of loss and gradients", "seconds", flags
    )
    for jit_compile in JIT[flags.jit]:
        steps = {
            arm: step_of(head, arm, jit_compile)
            for arm in available_arms(jit_compile)
        }
        check_alike({arm: step() for arm, step in steps.items()})
        seconds = take_turns(steps, flags.repeats, warm_up=1)
        report.add(str(head), jit_compile, CHUNKED, seconds)
    report.finish()


def add_head(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that describe a head."""
    add = parser.add_argument
    add("--tokens", type=int, default=4096, help="of one pass")
    add("--vocabulary", type=int, default=32_000, help="words")
    add("--width", type=int, default=512, help="of hidden states")
    add("--chunk-size", type=int, metavar="TOKENS", help="not 'auto'")
    add("--label-smoothing", type=float, default=0.0, help="of the loss")


def head_of(flags: argparse.Namespace) -> Head:
    """Returns the head that flags describe."""
    return Head(
        flags.tokens,
        flags.vocabulary,
        flags.width,
        flags.chunk_size or "auto",
        label_smoothing=flags.label_smoothing,
    )


if __name__ == "__main__":
    main()
