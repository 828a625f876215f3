"""What a run depends on, beside its data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its data.

    Attributes:
        model: One of `MODELS`.
        configuration: The size of a Vision Transformer without a preset, one
            of `SIZES`.
        blocks: How many blocks a stage of a ResNet has.
        preset: The directory of a pretrained Vision Transformer, or None.
        image_size: The side to which the model resizes images, or None.
        patch_size: The side of a patch, None if the size has its own.
        optimizer: "sgd" or "adamw".
        updates: For how many updates to train, in whole epochs; None for
            `epochs`.
        accumulate: How many batches make one update.
        warm_up: In how many updates the learning rate rises; None for a
            twentieth of all.
        summed_loss: Whether arms of two passes make the updates of the
            paper's loss, which is the sum over passes and not their mean.
        decay_alpha: Whether alpha goes as the learning rate does.
        augment: How to change training images, one of `AUGMENTATIONS`, or
            None.
    """

    arm: str
    alpha: float
    dropout: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    model: str = "vit"
    configuration: str = "tiny"
    blocks: int = 3
    preset: str | None = None
    image_size: int | None = None
    patch_size: int | None = None
    attention_dropout: float = 0.0
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    schedule: str = "cosine"
    warm_up: int | None = None
    updates: int | None = None
    accumulate: int = 1
    summed_loss: bool = False
    decay_alpha: bool = False
    augment: str | None = None
