"""Training steps fed by the examples' own input pipelines, against cached ones.

    python -m benchmarks.inputs --output results

Each example program is run by its command line up to the moment at which it
calls `fit`: what is timed is the model that it built and the batches that it
made. An epoch of `fit` on them stands against an epoch on the same batches,
cached; both begin an epoch anew, and callbacks are left out. Epochs take turns
in one process; the first of each, which compiles and fills the cache, does not
count. XLA is as the program has it.
"""

from __future__ import annotations

import importlib
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

CACHED, FED = "cached", "fed"
# By name, the program and how it is called, but for the arm and the output.
PROGRAMS = {
    "translation": ("reproduce", ["train", "translation"]),
    "summarization": ("reproduce", ["train", "summarization"]),
    "language modeling": ("reproduce", ["train", "language_modeling"]),
    "text classification": ("reproduce", ["train", "text_classification"]),
    "image classification": (
        "reproduce",
        ["train", "image_classification", "--train-images", "800"],
    ),
    "image classification, shifted": (
        "reproduce",
        [
            "train",
            "image_classification",
            "--train-images",
            "800",
            "--augment",
            "shift",
        ],
    ),
    "image classification, cropped": (
        "reproduce",
        [
            "train",
            "image_classification",
            "--train-images",
            "800",
            "--augment",
            "crop",
        ],
    ),
}
ARMS = ("plain", "doubled", "two_pass", "rdrop")
QUICK = {
    "repeats": 1,
    "programs": ["image classification, shifted"],
    "arms": ["plain"],
    "steps": 3,
}


class _Begun(BaseException):
    """Training that has got as far as `fit`."""

    def __init__(self, model: keras.Model, batches: Any):
        super().__init__()
        self.model = model
        self.batches = batches


class _EpochSeconds(keras.callbacks.Callback):
    """Measures an epoch alone, without what `fit` does before and after."""

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
        batches: Those of the epoch, by index.
        steps: How many.
    """

    def __init__(self, batches: Any, steps: int):
        super().__init__()
        self._batches = batches
        self._steps = steps

    def __len__(self) -> int:
        return self._steps

    def on_epoch_begin(self) -> None:
        if isinstance(self._batches, keras.utils.PyDataset):
            self._batches.on_epoch_begin()

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def prepared(name: str, arm: str) -> tuple[keras.Model, Any]:
    """Returns what a program trains, compiled, and its batches.

    Args:
        name: A key of `PROGRAMS`.
        arm: What the program calls so.
    """

    def fit(model, x, *_, **__):
        raise _Begun(model, x)

    program, arguments = PROGRAMS[name]
    main = importlib.import_module(f"{program}.__main__").main
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(keras.Model, "fit", fit),
    ):
        try:
            status = main([*arguments, "--arm", arm, "--output", directory])
        except _Begun as begun:
            return begun.model, begun.batches
    raise RuntimeError(f"{name} ended with {status} before it called `fit`.")


def epochs_of(
    model: keras.Model, batches: Any, steps: int
) -> dict[str, Callable[[], float]]:
    """Returns what makes an epoch and returns the seconds of a step of it.

    Args:
        model: A compiled model.
        batches: Those of an epoch, a `PyDataset` or a `tf.data.Dataset`.
        steps: The most steps of an epoch.
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
