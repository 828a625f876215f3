"""What a run depends on, beside its data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        arm: One of `ARMS`.
        alpha: The weight of the consistency.
        dropout: The rate of all dropout layers.
        seed: Fixes initial weights, order of rows and dropout.
        epochs: How often the training part is gone through.
        batch_size: Rows in an update.
        learning_rate: The highest one, reached after warm-up.
        preset: A directory with a pretrained encoder, None for a small one
            with random weights.
        schedule: What follows the warm-up, one of `SCHEDULES`.
        warm_up: Updates in which the learning rate rises, None for a share
            of all.
        updates: After how many updates to stop, None for all of the epochs.
        recipe: The recipe whose optimizer is used, None for the example's.
        sequence_length: The most tokens of an example, None for the model's.
    """

    arm: str
    alpha: float
    dropout: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    preset: str | None = None
    schedule: str = "cosine"
    warm_up: int | None = None
    updates: int | None = None
    recipe: str | None = None
    sequence_length: int | None = None
