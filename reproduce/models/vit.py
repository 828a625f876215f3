"""KerasHub's Vision Transformer, from random weights or from a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import keras_hub
import numpy as np
from keras import layers

from rdrop_keras import RDropModel
from reproduce.common.errors import InputError
from reproduce.models import keras_hub_tasks as hub


class Size(NamedTuple):
    """The size of a Vision Transformer."""

    layers: int
    width: int
    feed_forward: int
    heads: int
    # The side of a patch; None if it follows from the images.
    patch_size: int | None


SIZES = {
    # Trains from random weights in seconds on two CPU cores.
    "tiny": Size(2, 48, 96, 4, None),
    "b_16": Size(12, 768, 3072, 12, 16),
    "l_16": Size(24, 1024, 4096, 16, 16),
}
# The original was trained on pixels from -1 to 1.
SCALE, OFFSET = 1 / 127.5, -1.0


def vit(
    image_shape: tuple[int, ...],
    num_classes: int,
    size: Size,
    dropout: float,
    attention_dropout: float = 0.0,
    image_size: int | None = None,
) -> RDropModel:
    """Returns a Vision Transformer with random weights.

    It takes images with values from 0 to 255, which it resizes to squares of
    the side `image_size` if there is one, and returns logits.
    """
    *sides, channels = image_shape
    if image_size is not None:
        sides = [image_size, image_size]
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(*sides, channels),
        patch_size=patch_size_of(sides, size),
        num_layers=size.layers,
        num_heads=size.heads,
        hidden_dim=size.width,
        mlp_dim=size.feed_forward,
        dropout_rate=dropout,
        attention_dropout=attention_dropout,
    )
    return _classifier(backbone, image_shape, num_classes, SCALE, OFFSET)


def pretrained_vit(
    preset: Path,
    image_shape: tuple[int, ...],
    num_classes: int,
    dropout: float,
    attention_dropout: float = 0.0,
    image_size: int | None = None,
) -> RDropModel:
    """Returns a pretrained Vision Transformer with a new head.

    The dropout rates are always set, because KerasHub's presets have rate 0,
    with which R-Drop has no effect. Position embeddings are interpolated for
    another `image_size` than the preset's.
    """
    side = check_side(preset, image_size)
    try:
        backbone = keras_hub.models.ViTBackbone.from_preset(str(preset))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--preset {preset}: expected the weights of its config.json, got "
            f"{hub.first_line(error)} Save the preset again."
        ) from error
    print(
        f"{preset}: dropout {backbone.dropout_rate:g} set to {dropout:g}, "
        f"attention dropout {backbone.attention_dropout:g} to "
        f"{attention_dropout:g}, images {backbone.image_shape[0]} to {side}"
    )
    backbone = with_other_settings(
        backbone,
        image_shape=(side, side, backbone.image_shape[-1]),
        dropout_rate=dropout,
        attention_dropout=attention_dropout,
    )
    scale, offset = SCALE, OFFSET
    if (preset / "preprocessor.json").is_file():
        converter = keras_hub.layers.ViTImageConverter.from_preset(str(preset))
        scale = 1.0 if converter.scale is None else converter.scale
        offset = 0.0 if converter.offset is None else converter.offset
    return _classifier(backbone, image_shape, num_classes, scale, offset)


def _classifier(
    backbone: keras_hub.models.ViTBackbone,
    image_shape: tuple[int, ...],
    num_classes: int,
    scale: Any,
    offset: Any,
) -> RDropModel:
    inputs = layers.Input(image_shape, dtype="uint8", name="images")
    x = backbone(resized(inputs, backbone.image_shape[:2], scale, offset))
    # The original head starts at zero. With zeros, two passes would agree
    # regardless of dropout.
    x = x[:, 0] if backbone.use_class_token else keras.ops.mean(x, axis=1)
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(x)
    return RDropModel(inputs, logits, name="vit")


def resized(
    images: keras.KerasTensor,
    sides: tuple[int, ...],
    scale: Any = SCALE,
    offset: Any = OFFSET,
) -> keras.KerasTensor:
    """Returns rescaled images, resized if their sides differ."""
    images = layers.Rescaling(scale, offset)(images)
    if tuple(images.shape[1:3]) == tuple(sides):
        return images
    return layers.Resizing(*sides)(images)


def patch_size_of(sides: list[int], size: Size) -> int:
    """Returns the side of a patch for images of these sides."""
    # Four patches per side for the smallest images, eight for others.
    fitting = max(max(sides) // (4 if max(sides) < 16 else 8), 1)
    patch_size = size.patch_size or fitting
    if any(side % patch_size for side in sides):
        raise InputError(
            "Expected images whose sides are multiples of the patch size "
            f"{patch_size}, got {sides[0]}x{sides[1]}. Give --image-size or "
            "--patch-size."
        )
    return patch_size


def check_side(preset: Path, image_size: int | None) -> int:
    """Returns the side of the images for a preset; None selects its own."""
    read = hub.read_config(preset)
    try:
        name, config = read["class_name"], read["config"]
        trained = int(config["image_shape"][0]) if name == "ViTBackbone" else 0
        patch_size = np.max(config.get("patch_size", 1))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"--preset {preset}: config.json is not a KerasHub config."
        ) from error
    if not trained:
        raise InputError(
            f"--preset {preset}: expected a ViTBackbone, got {name}."
        )
    side = image_size or trained
    if side % patch_size:
        raise InputError(
            f"--image-size {side}: expected a multiple of {patch_size}, the "
            f"patch size of {preset}."
        )
    return side


def with_other_settings(
    backbone: keras_hub.models.ViTBackbone, **changes: Any
) -> keras_hub.models.ViTBackbone:
    """Returns a Vision Transformer with other settings and the same weights.

    If the shape of images changes, position embeddings are interpolated.
    """
    changed = type(backbone).from_config({**backbone.get_config(), **changes})
    before, after = (_grid(each) for each in (backbone, changed))
    weights = {weight.path: weight for weight in backbone.weights}
    for weight in changed.weights:
        value = weights[weight.path]
        if weight.path.endswith("position_embedding/embeddings"):
            value = interpolated(
                keras.ops.convert_to_numpy(value),
                before,
                after,
                backbone.use_class_token,
            )
        weight.assign(value)
    return changed


def interpolated(
    embeddings: np.ndarray,
    before: tuple[int, int],
    after: tuple[int, int],
    class_token: bool = True,
    interpolation: str = "bicubic",
) -> np.ndarray:
    """Returns position embeddings for another number of rows and columns.

    They are in row-major order, after that of the class token, which is kept.
    """
    if before == after:
        return embeddings
    first = 1 if class_token else 0
    width = embeddings.shape[-1]
    grid = embeddings[first:].reshape(1, *before, width)
    grid = keras.ops.image.resize(grid, after, interpolation=interpolation)
    grid = keras.ops.convert_to_numpy(grid).reshape(-1, width)
    return np.concatenate([embeddings[:first], grid])


def _grid(backbone: keras_hub.models.ViTBackbone) -> tuple[int, int]:
    height, width = backbone.image_shape[:2]
    rows, columns = backbone.patch_size
    return height // rows, width // columns
