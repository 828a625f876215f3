"""The settings of a training run, and named lists of them."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rdrop_keras import RDrop
from reproduce.common.arms import rdrop_of
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.sizes import TranslationSizes


@dataclass(frozen=True)
class Cell:
    """The settings of one run. Runs that differ in the seed alone are a cell.

    Attributes:
        arm: A key of `reproduce.common.arms.ARMS`.
        size: A key of `TRANSLATION_SIZES`.
        pairs: The number of training pairs. None takes all.
        updates: The number of updates, rounded to whole epochs.
        max_tokens: The maximum number of tokens on a side of a batch, with
            padding.
        buckets: The number of lengths to which pairs are padded. XLA compiles a
            training step for each.
        learning_rate: The highest learning rate, after the warm-up.
        warm_up: The number of updates in which the learning rate rises.
        dropout: The dropout rate of embeddings and residual branches.
        attention_dropout: The dropout rate of attention probabilities.
        activation_dropout: The dropout rate of feed-forward activations.
        label_smoothing: The label smoothing of the task loss.
        alpha: The weight of the consistency, for the arm "rdrop".
        num_passes: The number of passes of the arms with several.
        every: The number of updates of which one has several passes.
        dtype: The dtype policy of the model.
        validations: The number of validations of a run.
        seed: The seed of weights, batches and dropout.
    """

    arm: str = "plain"
    size: str = "small"
    pairs: int | None = None
    updates: int = 20_000
    max_tokens: int = 4096
    buckets: int = 1
    learning_rate: float = 5e-4
    warm_up: int = 4000
    dropout: float = 0.3
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    label_smoothing: float = 0.1
    alpha: float = 5.0
    num_passes: int = 2
    every: int = 1
    dtype: str = "float32"
    validations: int = 10
    seed: int = 1

    @property
    def rdrop(self) -> RDrop | None:
        """The `rdrop` argument of `compile`."""
        return rdrop_of(
            self.arm,
            self.alpha,
            num_passes=self.num_passes,
            every=self.every,
        )

    @property
    def sizes(self) -> TranslationSizes:
        """The sizes and rates of the model."""
        names = ("dropout", "attention_dropout", "activation_dropout")
        rates = {name: getattr(self, name) for name in names}
        return dataclasses.replace(TRANSLATION_SIZES[self.size], **rates)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that have an effect, but for the seed."""
        found = dataclasses.asdict(self)
        del found["seed"]
        if self.arm != "rdrop":
            del found["alpha"]
        if self.rdrop is None:
            del found["num_passes"], found["every"]
        return found

    def file_name(self, corpus: str) -> str:
        """Returns the name of the JSON file of the run."""
        content = json.dumps([corpus, self.settings()], sort_keys=True)
        digest = hashlib.sha256(content.encode()).hexdigest()[:8]
        return f"{corpus}_{self.size}_{self.arm}_{digest}_seed{self.seed}.json"


def grid(base: Cell, **values: Iterable[Any]) -> list[Cell]:
    """Returns a cell for each combination of values.

    Args:
        base: The settings that stay.
        **values: The values of each setting that varies. The last varies
            fastest.
    """
    return [
        dataclasses.replace(base, **dict(zip(values, chosen)))
        for chosen in itertools.product(*values.values())
    ]
