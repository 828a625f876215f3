"""What a run depends on, beside its data."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

from reproduce.decoding.generator import Sampling
from reproduce.models.language_sizes import CONFIGURATIONS
from reproduce.models.language_sizes import Configuration

POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
OPTIMIZERS = ("adam", "nesterov")
SCHEDULES = ("inverse_square_root", "cosine")


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its data.

    Attributes:
        configuration: Sizes and dropout rates of the model.
        vocabulary: A key of `vocabulary.KINDS`.
        vocabulary_size: How many ids, or None for all words.
        block_size: How many tokens the model sees at once.
        context_window: In validation and test, how many of them are only
            looked at.
        batch_size: How many blocks make a batch.
        accumulate: How many batches make an update.
        optimizer: One of `OPTIMIZERS`.
        schedule: One of `SCHEDULES`; a cosine ends with the last update.
        learning_rate: The highest one.
        initial_learning_rate: That of the first update.
        end_learning_rate: That of the last update, of a cosine.
        warm_up: How many updates the learning rate rises.
        weight_decay: Decoupled weight decay.
        momentum: Of Nesterov's.
        betas: Of Adam.
        epsilon: Of Adam.
        clip_norm: The largest norm of the gradient, or None.
        summed_loss: Whether arms of two passes make the updates of the paper's
            loss, the sum over passes; see `Recipe.optimizer`.
        patience: Stop after so many epochs without a better validation loss,
            or None.
        mixed_precision: A key of `POLICIES`, or None.
        jit_compile: Whether XLA compiles the training step.
        vocabulary_chunk: As in `RDrop`, for the arms that have several passes.
        sampling: How to go on with a text.
    """

    arm: str
    alpha: float
    seed: int
    epochs: int
    configuration: Configuration = CONFIGURATIONS["tiny"]
    vocabulary: str = "subwords"
    vocabulary_size: int | None = 1000
    block_size: int = 64
    context_window: int = 0
    batch_size: int = 8
    accumulate: int = 1
    optimizer: str = "adam"
    schedule: str = "inverse_square_root"
    learning_rate: float = 2e-3
    initial_learning_rate: float = 1e-7
    end_learning_rate: float = 0.0
    warm_up: int = 200
    weight_decay: float = 0.01
    momentum: float = 0.99
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-8
    clip_norm: float | None = None
    summed_loss: bool = False
    patience: int | None = None
    mixed_precision: str | None = None
    jit_compile: bool = False
    vocabulary_chunk: int | str | None = None
    sampling: Sampling = field(default_factory=Sampling)
