"""The command line of the image classification example."""

from __future__ import annotations

import argparse
from pathlib import Path

from rdrop_keras import recipes
from reproduce.common.flags import Defaults
from reproduce.common.flags import add_training_flags
from reproduce.common.flags import add_update_counts
from reproduce.common.flags import at_least
from reproduce.common.flags import rate
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.image_directory import FORMATS
from reproduce.image_classification.model import MODELS
from reproduce.image_classification.optimizers import OPTIMIZERS
from reproduce.image_classification.recipe import recipe_flags
from reproduce.image_classification.settings import Settings
from reproduce.models.vit import SIZES
from reproduce.schedules import SCHEDULES

DEFAULTS = Defaults(
    alpha=1.0,
    dropout=0.1,
    epochs=40,
    batch_size=32,
    seeds=(1, 2, 3),
    output="runs/image_classification",
)
LEARNING_RATES = {"sgd": 0.03, "adamw": 1e-3}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    A recipe sets the defaults of all flags that it has something to say about.

    Raises:
        InputError: If there is no such recipe for images.
    """
    parser = _parser()
    flags = parser.parse_args(arguments)
    if flags.recipe is not None:
        if flags.data is None:
            parser.error("--recipe needs --data DIR, where its dataset is")
        parser.set_defaults(**recipe_flags(flags.recipe))
        flags = parser.parse_args(arguments)
    if flags.data is None and (flags.tfds or flags.format != "auto"):
        parser.error("--format and --tfds need --data DIR")
    if flags.preset is not None and flags.model != "vit":
        parser.error("--preset is of a vit")
    return flags


def settings_of(flags: argparse.Namespace) -> Settings:
    """Returns what the flags say of a run."""
    learning_rate = flags.learning_rate
    if learning_rate is None:
        learning_rate = LEARNING_RATES[flags.optimizer]
    return Settings(
        arm=flags.arm,
        alpha=flags.alpha,
        dropout=flags.dropout,
        seed=flags.seed,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        learning_rate=learning_rate,
        model=flags.model,
        configuration=flags.configuration,
        blocks=flags.blocks,
        preset=str(flags.preset) if flags.preset else None,
        image_size=flags.image_size,
        patch_size=flags.patch_size,
        attention_dropout=flags.attention_dropout,
        optimizer=flags.optimizer,
        momentum=flags.momentum,
        weight_decay=flags.weight_decay,
        clip_norm=flags.clip_norm or None,
        schedule=flags.schedule,
        warm_up=flags.warm_up,
        updates=flags.updates,
        accumulate=flags.accumulate,
        summed_loss=flags.summed_loss,
        decay_alpha=flags.decay_alpha,
        augment=flags.augment,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.image_classification",
        description="Image classification with a Vision Transformer or a "
        "residual network, plain and with R-Drop",
    )
    _add_data_flags(parser)
    _add_model_flags(parser)
    add_training_flags(parser, DEFAULTS)
    _add_more_training_flags(parser)
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare on one seed, then classify a few images in another "
        "process",
    )
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "data (default: scikit-learn's digits, no download)"
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="CIFAR-10 or CIFAR-100 as published, for Python or binary; a "
        "directory of images for each class, or train, valid and test with "
        "such; TFRecords of encoded images",
    )
    group.add_argument(
        "--format",
        choices=FORMATS,
        default="auto",
        help="of --data (default: what its files say)",
    )
    group.add_argument(
        "--tfds",
        metavar="NAME",
        help="read this data set of tensorflow-datasets, prepared in --data",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="the paper's configuration for one of its datasets, to be given "
        "by --data: "
        + ", ".join(recipes.names("image_classification"))
        + ". Other flags change it; it needs the --preset of a model "
        "pretrained on ImageNet-21k",
    )
    group.add_argument(
        "--train-images",
        type=at_least(1),
        metavar="N",
        help="train on so many images, of every class its share (default: "
        "200 digits, all of other data)",
    )


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", choices=MODELS, default="vit", help="(default: vit)"
    )
    group.add_argument(
        "--preset",
        type=Path,
        metavar="DIR",
        help="a vit written by KerasHub's save_to_preset (default: one "
        "trained from scratch)",
    )
    group.add_argument(
        "--configuration",
        choices=list(SIZES),
        default="tiny",
        help="the size of a vit without a preset (default: tiny)",
    )
    group.add_argument(
        "--blocks",
        type=at_least(1),
        default=3,
        metavar="N",
        help="blocks in a stage of a resnet, which has 6 N + 2 layers "
        "(default: 3)",
    )
    group.add_argument(
        "--image-size",
        type=at_least(1),
        metavar="PIXELS",
        help="resize images to squares of this side (default: that of the "
        "preset, or leave them)",
    )
    group.add_argument(
        "--patch-size",
        type=at_least(1),
        metavar="PIXELS",
        help="the side of a patch (default: that of the configuration)",
    )
    group.add_argument(
        "--attention-dropout",
        type=rate,
        default=0.0,
        help="dropout rate of attention weights (default: 0)",
    )


def _add_more_training_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("optimizer and schedule")
    group.add_argument(
        "--optimizer", choices=OPTIMIZERS, default="sgd", help="(default: sgd)"
    )
    group.add_argument(
        "--momentum", type=rate, default=0.9, help="of sgd (default: 0.9)"
    )
    group.add_argument(
        "--weight-decay", type=at_least(0.0), default=0.0, help="(default: 0)"
    )
    group.add_argument(
        "--clip-norm",
        type=at_least(0.0),
        default=1.0,
        help="the largest norm of all gradients together; 0 for any "
        "(default: 1)",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="cosine",
        help="how the learning rate falls: to 0 along a cosine or a line, or "
        "by ten after half and three quarters of the updates (default: cosine)",
    )
    group.add_argument(
        "--warm-up",
        type=at_least(0),
        metavar="UPDATES",
        help="updates in which the learning rate rises (default: a twentieth)",
    )
    add_update_counts(group)
    group.add_argument(
        "--summed-loss",
        action="store_true",
        help="make the updates of the paper's loss, the sum over passes, with "
        "the arms two_pass and rdrop: for sgd twice the learning rate and "
        "half the --clip-norm",
    )
    group.add_argument(
        "--decay-alpha",
        action="store_true",
        help="let alpha rise and fall as the learning rate does",
    )
    group.add_argument(
        "--augment",
        nargs="?",
        const="shift",
        choices=list(AUGMENTATIONS),
        help="change training images. shift: by up to 4 pixels, and mirror "
        "half of them, as residual networks train on CIFAR; crop: 5 to 100 "
        "%% of an image, resized, as the paper trains ViT (default: do not; "
        "without a name: shift)",
    )
