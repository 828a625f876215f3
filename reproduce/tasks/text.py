"""Settings and functions shared by the three tasks that generate text."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

from rdrop_keras import RDrop
from reproduce import flags
from reproduce.common.arms import rdrop_of
from reproduce.common.devices import is_compiled
from reproduce.data.parallel_text import read_sentences
from reproduce.task import Settings

POLICIES = {
    None: "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """Settings of the optimizer and of the computation."""

    learning_rate: flags.MaybePositive = None
    """The highest learning rate, reached after the warm-up; none: depends on
    the model."""
    accumulate: flags.Count = 1
    """The number of batches in an update."""
    warm_up: flags.CountOrZero = 200
    """The number of updates in which the learning rate rises."""
    weight_decay: flags.NotNegative = 0.0
    """Decoupled weight decay."""
    patience: flags.MaybeCount = None
    """Stop after this many validations without a better score."""
    mixed_precision: Literal["bfloat16", "float16"] | None = None
    """Compute in half precision."""
    jit_compile: Literal["auto", "yes", "no"] = "auto"
    """Compile the training step by XLA; auto: on a GPU, and on JAX."""
    vocabulary_chunk: flags.Chunk = None
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
class ModelSettings(TextSettings):
    """Settings that replace those of a configuration, where they are given."""

    dropout: flags.MaybeRate = None
    """The dropout rate of embeddings and residuals; none: the
    configuration's."""
    attention_dropout: flags.MaybeRate = None
    """The dropout rate of attention; none: the configuration's."""
    activation_dropout: flags.MaybeRate = None
    """The dropout rate of activations; none: the configuration's."""

    def replaced(self, sizes: Any) -> Any:
        """Returns the sizes of a configuration, with the given settings."""
        names = {field.name for field in dataclasses.fields(sizes)}
        given = {name: getattr(self, name, None) for name in names}
        return dataclasses.replace(
            sizes, **{name: x for name, x in given.items() if x is not None}
        )


def generate_lines(
    generate: Callable[[list[str]], list[str]],
    source: Path | None,
    at_a_time: int,
) -> None:
    """Prints what is generated from each line of a file or standard input."""
    if source is not None:
        print("\n".join(generate(read_sentences(source))))
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
