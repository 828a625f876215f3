"""What the three tasks that generate text have in common."""

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
    """Optimizer and computation."""

    learning_rate: MaybePositive = None
    """The highest one, reached after the warm-up; none: depends on the model.
    """
    accumulate: Count = 1
    """Batches in an update."""
    warm_up: CountOrZero = 200
    """Updates in which the learning rate rises."""
    weight_decay: NotNegative = 0.0
    """Decoupled weight decay."""
    patience: MaybeCount = None
    """Stop after so many validations without a better score."""
    mixed_precision: Literal["bfloat16", "float16"] | None = None
    """Compute in half precision."""
    jit_compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the training step by XLA; auto: on a GPU."""
    vocabulary_chunk: Chunk = None
    """Hold the logits of so many positions at a time in training with several
    passes; none: of all."""

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
        """What `compile` takes."""
        return rdrop_of(
            self.arm, self.alpha, vocabulary_chunk=self.vocabulary_chunk
        )


@dataclass(frozen=True, kw_only=True)
class PairSettings(TextSettings):
    """Data, batches and choice of weights of parallel text."""

    train_source: MaybePath = None
    """Own data: UTF-8 files, a text a line."""
    train_target: MaybePath = None
    valid_source: MaybePath = None
    valid_target: MaybePath = None
    test_source: MaybePath = None
    test_target: MaybePath = None
    data: MaybePath = None
    """The directory of the paper's dataset; see docs/datasets.md."""
    train_pairs: Count = 1
    """How many training pairs of the default corpus to use."""
    vocabulary_size: Count = 500
    """How many subwords."""
    max_tokens: Count = 512
    """The most tokens of a side of a batch, padding included."""
    max_pairs: MaybeCount = None
    """The most pairs in a batch."""
    label_smoothing: Rate = 0.1
    """Of the task loss."""
    validate_every: Count = 1
    """Generate from the validation part after so many epochs."""
    average: CountOrZero = 0
    """Average the weights of the last so many validated epochs; 0: take those
    of the best score."""

    def check_files(self) -> None:
        """Raises `InputError` unless parallel files are given whole."""
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
    # On a CPU it gains little and compiles every shape of batch.
    return bool(keras.distribution.list_devices("gpu"))


def stated(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that have a value."""
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
    # As they come, so that a pipe need not end to be answered.
    waiting: list[str] = []
    for line in sys.stdin:
        waiting.append(line.rstrip("\r\n"))
        if len(waiting) == at_a_time or sys.stdin.isatty():
            print("\n".join(generate(waiting)), flush=True)
            waiting = []
    if waiting:
        print("\n".join(generate(waiting)), flush=True)


def evenly(texts: Any, count: int) -> list[int]:
    """Returns `count` indices, evenly spread."""
    return list(range(0, len(texts), max(len(texts) // count, 1))[:count])
