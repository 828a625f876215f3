"""Settings and functions shared by the three tasks that generate text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras

from rdrop_keras import RDrop
from reproduce.common.arms import rdrop_of
from reproduce.common.errors import InputError
from reproduce.data.parallel_text import read_sentences
from reproduce.flags import Chunk
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import MaybeCount
from reproduce.flags import MaybePath
from reproduce.flags import MaybePositive
from reproduce.flags import NotNegative
from reproduce.flags import Rate
from reproduce.task import Settings

POLICIES = {
    None: "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """Settings of the optimizer and of the computation."""

    learning_rate: MaybePositive = None
    """The highest learning rate, reached after the warm-up; none: depends on
    the model."""
    accumulate: Count = 1
    """The number of batches in an update."""
    warm_up: CountOrZero = 200
    """The number of updates in which the learning rate rises."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    patience: MaybeCount = None
    """Stop after this many validations without a better score."""
    mixed_precision: Literal["bfloat16", "float16"] | None = None
    """Compute in half precision."""
    jit_compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the training step by XLA; auto: on a GPU, and on JAX."""
    vocabulary_chunk: Chunk = None
    """Hold the logits of this many positions at a time when training with
    several passes; none: of all positions."""

    @property
    def policy(self) -> str:
        """The dtype policy of the model."""
        return POLICIES[self.mixed_precision]

    @property
    def compiled(self) -> bool:
        """Whether XLA compiles the training step."""
        if self.jit_compile == "auto":
            return is_compiled()
        return self.jit_compile == "yes"

    @property
    def rdrop(self) -> RDrop | None:
        """The `rdrop` argument of `compile`."""
        return rdrop_of(
            self.arm, self.alpha, vocabulary_chunk=self.vocabulary_chunk
        )


@dataclass(frozen=True, kw_only=True)
class PairSettings(TextSettings):
    """Settings of data, batches and checkpoints for parallel text."""

    train_source: MaybePath = None
    """Own data: UTF-8 files with one text per line."""
    train_target: MaybePath = None
    valid_source: MaybePath = None
    valid_target: MaybePath = None
    test_source: MaybePath = None
    test_target: MaybePath = None
    data: MaybePath = None
    """The directory of the paper's dataset; see docs/datasets.md."""
    train_pairs: Count = 1
    """The number of training pairs of the default corpus."""
    vocabulary_size: Count = 500
    """The number of subwords."""
    max_tokens: Count = 512
    """The maximum number of tokens per side of a batch, with padding."""
    max_pairs: MaybeCount = None
    """The maximum number of pairs in a batch."""
    label_smoothing: Rate = 0.1
    """The label smoothing of the task loss."""
    validate_every: Count = 1
    """The number of epochs between evaluations by generation."""
    average: CountOrZero = 0
    """Average the weights of this many last validated epochs; 0: use the
    weights of the best score."""

    def check_files(self) -> None:
        """Raises `InputError` if parallel files are given incompletely."""
        needed = (
            self.train_source,
            self.train_target,
            self.valid_source,
            self.valid_target,
        )
        tests = (self.test_source, self.test_target)
        if any(needed) and not all(needed):
            raise InputError(
                "--train-source, --train-target, --valid-source and "
                "--valid-target come together."
            )
        if any(tests) and not all(tests):
            raise InputError("--test-source and --test-target come together.")
        if any(tests) and not any(needed):
            raise InputError("--test-source needs --train-source.")
        if any(needed) and self.data:
            raise InputError("Give parallel files, or --data, not both.")


def is_compiled() -> bool:
    """Returns whether XLA compiles the training step by default."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        # JAX is slow without XLA, and PyTorch has a compiler of its own.
        return backend == "jax"
    # On a CPU, XLA gains little and compiles for every batch shape.
    return bool(keras.distribution.list_devices("gpu"))


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that are not None."""
    return {
        name: value for name, value in settings.items() if value is not None
    }


def generate_lines(
    generate: Callable[[list[str]], Iterable[str]],
    source: Path | None,
    at_a_time: int,
) -> None:
    """Prints what is generated from each line of a file or standard input."""
    if source is not None:
        print("\n".join(generate(list(read_sentences(source)))))
        return
    # Line by line, so that a pipe is answered before it ends.
    waiting: list[str] = []
    for line in sys.stdin:
        waiting.append(line.rstrip("\r\n"))
        if len(waiting) == at_a_time or sys.stdin.isatty():
            print("\n".join(generate(waiting)), flush=True)
            waiting = []
    if waiting:
        print("\n".join(generate(waiting)), flush=True)


def evenly(texts: Any, count: int) -> list[int]:
    """Returns `count` evenly spaced indices."""
    return list(range(0, len(texts), max(len(texts) // count, 1))[:count])
