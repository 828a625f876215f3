"""Which classifier a run trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras

from reproduce.common.errors import InputError
from reproduce.image_classification.optimizers import TWO_PASSES
from reproduce.image_classification.settings import Settings
from reproduce.models.resnet import resnet
from reproduce.models.vit import SIZES
from reproduce.models.vit import Size
from reproduce.models.vit import check_side
from reproduce.models.vit import patch_size_of
from reproduce.models.vit import pretrained_vit
from reproduce.models.vit import vit

MODELS = ("vit", "resnet")
COLOR_CHANNELS = 3


def build(
    image_shape: tuple[int, ...], num_classes: int, settings: Settings
) -> keras.Model:
    """Returns the classifier that the settings ask for.

    Args:
        image_shape: Height, width and channels of the images.
        num_classes: How many classes there are.
        settings: What a run depends on.
    """
    if settings.model == "resnet":
        return resnet(
            image_shape,
            num_classes,
            settings.blocks,
            settings.dropout,
            settings.image_size,
        )
    if settings.preset is not None:
        return pretrained_vit(
            Path(settings.preset),
            image_shape,
            num_classes,
            settings.dropout,
            settings.attention_dropout,
            settings.image_size,
        )
    return vit(
        image_shape,
        num_classes,
        _size(settings),
        settings.dropout,
        settings.attention_dropout,
        settings.image_size,
    )


def check(
    image_shape: tuple[int, ...], settings: Settings, arms: tuple[str, ...]
) -> None:
    """Checks that the classifier can be built, without building it.

    Args:
        image_shape: Height, width and channels of the images.
        settings: What a run depends on.
        arms: The arms that are to be trained.

    Raises:
        InputError: If images and model do not fit, or two passes would be
            the same.
    """
    rates = [settings.dropout]
    if settings.model == "vit":
        rates.append(settings.attention_dropout)
    twice = [arm for arm in arms if arm in TWO_PASSES]
    if twice and not any(rates):
        raise InputError(
            f"--dropout {settings.dropout:g}: expected more than 0 for "
            f"{' and '.join(twice)}, got two passes that are the same."
        )
    if settings.preset is not None:
        check_side(Path(settings.preset), settings.image_size)
        if image_shape[-1] != COLOR_CHANNELS:
            raise InputError(
                f"--preset {settings.preset}: expected images in colour, got "
                f"{image_shape[-1]} channel. Give --data."
            )
    elif settings.model == "vit":
        side = settings.image_size
        sides = image_shape[:2] if side is None else (side, side)
        patch_size_of(sides, _size(settings))


def _size(settings: Settings) -> Size:
    size = SIZES[settings.configuration]
    if settings.patch_size is None:
        return size
    return replace(size, patch_size=settings.patch_size)
