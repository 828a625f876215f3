"""What a run depends on, beside its data."""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field

from reproduce.summarization.decoding import Decoding
from reproduce.summarization.model import CONFIGURATIONS
from reproduce.summarization.model import Configuration

POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
TWO_PASSES = ("two_pass", "rdrop")


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its data.

    Attributes:
        configuration: Sizes and dropout rate of the model from scratch.
        preset: The pre-trained model to start from instead: a directory, or
            the name of one of KerasHub's.
        dropout: The dropout rate over the preset's own, or None.
        vocabulary_size: How many subwords, without a preset.
        max_source_length: The most ids of an article; the rest is cut off.
        max_target_length: The most ids of a summary in training.
        max_tokens: The most ids of a side of a batch, padding included.
        max_pairs: The most pairs in a batch, or None.
        accumulate: How many batches make one update.
        updates: How many updates the learning rate takes to its end, or None
            for all of the run's.
        learning_rate: The highest learning rate.
        warm_up: How many updates the learning rate rises.
        power: The power of the polynomial by which it falls to 0 then.
        weight_decay: Decoupled weight decay.
        clip_norm: The largest norm of the whole gradient, or None.
        summed_loss: Whether arms of two passes make the updates of the
            paper's loss, which is the sum over the passes where ours is the
            mean: clipping norm and epsilon are halved for that.
        validate_every: Score after every so many epochs.
        validate_on: How many validation articles to summarize then, or None
            for all.
        patience: Stop after so many scores without a better one, or None.
        average: Average the weights of the last scored epochs, so many of
            them; with 0 take those of the best.
        mixed_precision: A key of `POLICIES`, or None.
        jit_compile: Whether XLA compiles the training step.
        vocabulary_chunk: As in `RDrop`, for the arms that have several passes.
        decoding: How to summarize at the end.
        decoding_batch: How many articles to summarize at a time.
    """

    arm: str
    alpha: float
    seed: int
    epochs: int
    configuration: Configuration = CONFIGURATIONS["tiny"]
    preset: str | None = None
    dropout: float | None = None
    vocabulary_size: int = 2000
    max_source_length: int = 48
    max_target_length: int = 32
    max_tokens: int = 1024
    max_pairs: int | None = None
    accumulate: int = 1
    updates: int | None = None
    learning_rate: float = 2e-3
    warm_up: int = 100
    power: float = 1.0
    weight_decay: float = 0.01
    clip_norm: float | None = 0.1
    summed_loss: bool = False
    label_smoothing: float = 0.1
    validate_every: int = 1
    validate_on: int | None = None
    patience: int | None = None
    average: int = 0
    mixed_precision: str | None = None
    jit_compile: bool = False
    vocabulary_chunk: int | str | None = None
    decoding: Decoding = field(default_factory=Decoding)
    decoding_batch: int = 32

    @property
    def policy(self) -> str:
        """The dtype policy of the model."""
        return POLICIES.get(self.mixed_precision, "float32")
