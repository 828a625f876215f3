"""The flags of image classification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce import flags
from reproduce.models import vit
from reproduce.task import Settings as CommonSettings

LEARNING_RATES = {"sgd": 0.03, "adamw": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """The flags of `train image_classification`."""

    epochs: flags.MaybeCount = None
    """The number of epochs; none: 40, or as many as --updates needs."""
    output: Path = Path("runs/image_classification")
    """The directory to write."""
    data: flags.MaybePath = None
    """CIFAR-10 or CIFAR-100 as published, for Python or binary; a directory of
    images per class, or directories train, valid and test of these; TFRecords
    of encoded images; none: scikit-learn's digits."""
    format: Literal[
        "auto", "cifar10", "cifar100", "folder", "tfrecord", "tfds"
    ] = "auto"
    """The format of --data; auto: detected from its files."""
    tfds: flags.MaybeText = None
    """Read this dataset of tensorflow-datasets, prepared in --data."""
    train_images: flags.MaybeCount = None
    """The size of the training part, stratified by class; none: 200 digits,
    all of other data."""
    model: Literal["vit", "resnet"] = "vit"
    """The network."""
    preset: flags.MaybePath = None
    """A ViT written by KerasHub's save_to_preset; none: random weights."""
    configuration: Literal["tiny", "b_16", "l_16"] = "tiny"
    """The size of a ViT with random weights."""
    blocks: flags.Count = 3
    """The number N of blocks in a stage of a ResNet of 6 N + 2 layers."""
    image_size: flags.MaybeCount = None
    """Resize images to squares of this side; none: that of the preset, or
    their own."""
    patch_size: flags.MaybeCount = None
    """The side of a patch; none: that of the configuration."""
    dropout: flags.Rate = 0.1
    """The rate of all dropout layers."""
    attention_dropout: flags.Rate = 0.0
    """The dropout rate of attention weights."""
    batch_size: flags.Count = 32
    """The number of images in a batch."""
    accumulate: flags.Count = 1
    """The number of batches in an update."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """The optimizer."""
    learning_rate: flags.MaybePositive = None
    """The highest learning rate; none: 0.03 for sgd, 0.001 for adamw."""
    momentum: flags.Rate = 0.9
    """The momentum of sgd."""
    weight_decay: flags.NotNegative = 0.0
    """The weight decay."""
    clip_norm: flags.NotNegative = 1.0
    """The largest global norm of gradients; 0: any."""
    schedule: Literal["cosine", "linear", "steps"] = "cosine"
    """The decay of the learning rate: to 0 along a cosine or a line, or by ten
    after half and three quarters of the updates."""
    warm_up: flags.MaybeCountOrZero = None
    """The number of warm-up updates; none: a twentieth of all."""
    summed_loss: bool = False
    """With the arms two_pass and rdrop, make the updates of the paper's loss,
    which is the sum over passes (ours is the mean): twice the learning rate
    of sgd and half --clip-norm."""
    decay_alpha: bool = False
    """Let alpha rise and fall in proportion to the learning rate."""
    augment: Literal["shift", "crop"] | None = None
    """Change training images. shift: by up to 4 pixels, and mirror half of
    them; crop: 5 to 100 % of an image, resized."""

    @property
    def size(self) -> vit.Size:
        """The size of a ViT with random weights."""
        size = vit.SIZES[self.configuration]
        return size._replace(patch_size=self.patch_size or size.patch_size)

    @property
    def highest_rate(self) -> float:
        """The highest learning rate of a pass's mean loss."""
        return self.learning_rate or LEARNING_RATES[self.optimizer]
