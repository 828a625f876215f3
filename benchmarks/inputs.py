"""Training steps on the tasks' own input pipelines and on cached batches.

    python -m benchmarks.inputs --output results

Each task of `reproduce` runs by its command line until it calls `fit`, which
gives its model and its batches. The benchmark compares an epoch of `fit` on
these batches with an epoch on the same batches from a cache, without callbacks.
Epochs take turns in one process. The first epoch of each, which compiles and
fills the cache, does not count. The program decides whether XLA is used.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from unittest import mock

import keras
import tensorflow as tf

from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.report import Report
from reproduce.__main__ import main as reproduce

CACHED, FED = "cached", "fed"
# The flags of `reproduce train` for each name, without arm and output.
PROGRAMS = {
    "translation": "translation",
    "summarization": "summarization",
    "language modeling": "language_modeling",
    "text classification": "text_classification",
    "image classification": "image_classification --train-images 800",
    "image classification, shifted": "image_classification --train-images 800 "
    "--augment shift",
    "image classification, cropped": "image_classification --train-images 800 "
    "--augment crop",
}
ARMS = ("plain", "doubled", "two_pass", "rdrop")
QUICK = {
    "repeats": 1,
    "programs": ["image classification, shifted"],
    "arms": ["plain"],
    "steps": 3,
}


class _Begun(BaseException):
    """Raised when a program calls `fit`, with its model and batches."""

    def __init__(self, model: keras.Model, batches: Any):
        super().__init__()
        self.model = model
        self.batches = batches


class _EpochSeconds(keras.callbacks.Callback):
    """Measures an epoch without the work of `fit` before and after it."""

    def __init__(self):
        super().__init__()
        self.seconds = 0.0
        self._started = 0.0

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        self.seconds = time.perf_counter() - self._started


class _First(keras.utils.PyDataset):
    """The first steps of an epoch.

    Args:
        batches: The batches of the epoch.
        steps: The number of steps.
    """

    def __init__(self, batches: Any, steps: int):
        super().__init__()
        self._batches = batches
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def prepared(name: str, arm: str) -> tuple[keras.Model, Any]:
    """Returns the compiled model of a program, and its batches.

    Args:
        name: A key of `PROGRAMS`.
        arm: The value of `--arm`.
    """

    def fit(model, x, *_, **__):
        raise _Begun(model, x)

    arguments = ["train", *PROGRAMS[name].split(), "--arm", arm]
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(keras.Model, "fit", fit),
    ):
        try:
            status = reproduce([*arguments, "--output", directory])
        except _Begun as begun:
            return begun.model, begun.batches
    raise RuntimeError(f"{name} ended with {status} before it called `fit`.")


def epochs_of(
    model: keras.Model, batches: Any, steps: int
) -> dict[str, Callable[[], float]]:
    """Returns functions that run an epoch and return the seconds per step.

    Args:
        model: A compiled model.
        batches: The batches of an epoch, a `PyDataset` or a `tf.data.Dataset`.
        steps: The maximum number of steps in an epoch.
    """
    steps = min(steps, len(batches))

    def epoch(data):
        def run():
            clock = _EpochSeconds()
            model.fit(data, shuffle=False, callbacks=[clock], verbose=0)
            return clock.seconds / steps

        return run

    if isinstance(batches, tf.data.Dataset):
        fed = batches.take(steps)
        cached = fed.cache().prefetch(2)
    else:
        fed = _First(batches, steps)
        cached = _First([fed[index] for index in range(steps)], steps)
    return {CACHED: epoch(cached), FED: epoch(fed)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=7, jit=None)
    add = parser.add_argument
    names = list(PROGRAMS)
    add("--programs", nargs="+", choices=names, default=names)
    add("--arms", nargs="+", choices=ARMS, default=["plain", "rdrop"])
    add("--steps", type=int, default=100, help="the most of an epoch")
    flags = parse(parser, arguments, QUICK)
    report = Report("inputs", "time of a step of an epoch", "seconds", flags)
    for name, arm in itertools.product(flags.programs, flags.arms):
        model, batches = prepared(name, arm)
        seconds = take_turns(
            epochs_of(model, batches, flags.steps),
            flags.repeats,
            warm_up=1,
            measure=lambda run: run(),
        )
        report.add(f"{name}, {arm}", bool(model.jit_compile), CACHED, seconds)
    report.finish()


if __name__ == "__main__":
    main()
