"""KerasHub's Vision Transformer from a preset, with R-Drop."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from rdrop_keras import RDropMixin
from reproduce.common.errors import InputError

INTERPOLATIONS = ("bicubic", "bilinear")


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class RDropViTImageClassifier(RDropMixin, keras_hub.models.ViTImageClassifier):
    """`ViTImageClassifier`, trained with R-Drop."""


def preset_side(preset: Path) -> int:
    """Returns the side of the images that a preset was trained on."""
    return int(_config(preset)["image_shape"][0])


def check_side(preset: Path, image_size: int | None) -> int:
    """Returns the side of the images that a preset is to be used on.

    Args:
        preset: A directory as `save_to_preset` writes it.
        image_size: The side; None for that of the preset.

    Raises:
        InputError: If there is no such preset, or the size does not fit it.
    """
    side = preset_side(preset) if image_size is None else image_size
    patch_size = _config(preset)["patch_size"]
    patches = [patch_size] if isinstance(patch_size, int) else patch_size
    if any(side % patch for patch in patches):
        raise InputError(
            f"--image-size {side}: expected a multiple of {patches[0]}, the "
            f"patch size of {preset}."
        )
    return side


def pretrained_classifier(
    preset: Path,
    num_classes: int,
    dropout: float,
    attention_dropout: float = 0.0,
    image_size: int | None = None,
) -> RDropViTImageClassifier:
    """Returns a pretrained Vision Transformer with a new head.

    It takes what its preprocessor makes of images, and returns logits.
    KerasHub's own has no dropout, and so R-Drop would do nothing: it is built
    anew with dropout, and then given the preset's weights.

    Args:
        preset: A directory as `save_to_preset` writes it.
        num_classes: How many classes there are.
        dropout: The rate of all dropout layers, over the preset's own.
        attention_dropout: The rate of dropout on attention weights.
        image_size: The side to which images are resized; None for that of
            the preset. Position embeddings are interpolated.

    Raises:
        InputError: If there is no such preset, or the size does not fit it.
    """
    side = check_side(preset, image_size)
    try:
        pretrained = keras_hub.models.ViTBackbone.from_preset(str(preset))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--preset {preset}: expected the weights of its config.json, got "
            f"{str(error).strip().splitlines()[0]} Save the preset again."
        ) from error
    backbone = with_other_settings(
        pretrained,
        image_shape=(side, side, pretrained.image_shape[-1]),
        dropout_rate=dropout,
        attention_dropout=attention_dropout,
    )
    print(
        f"{preset}: dropout {pretrained.dropout_rate:g} set to {dropout:g}, "
        f"attention dropout {pretrained.attention_dropout:g} to "
        f"{attention_dropout:g}, images {pretrained.image_shape[0]} to {side}"
    )
    return RDropViTImageClassifier(
        backbone=backbone,
        num_classes=num_classes,
        preprocessor=_preprocessor(preset, side),
        # The head of the original: one layer on the class token. Not zeros to
        # begin with, as there: both passes would agree, whatever the dropout.
        pooling="token" if backbone.use_class_token else "gap",
        dropout=0.0,
        head_dtype="float32",
    )


def with_other_settings(
    backbone: keras_hub.models.ViTBackbone, **changes: Any
) -> keras_hub.models.ViTBackbone:
    """Returns a Vision Transformer of other settings with the same weights.

    Args:
        backbone: What to take the weights from.
        **changes: Dropout rates, and the shape of images, for which position
            embeddings are interpolated.
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
    """Returns position embeddings for another number of patches.

    Args:
        embeddings: One for each position, row by row, behind that of the
            class token.
        before: Rows and columns of patches.
        after: Rows and columns that there are to be.
        class_token: Whether the first is of the class token. It stays.
        interpolation: One of `INTERPOLATIONS`.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"Expected an interpolation out of {', '.join(INTERPOLATIONS)}. "
            f"Received: {interpolation}."
        )
    first = 1 if class_token else 0
    if len(embeddings) != first + before[0] * before[1]:
        raise ValueError(
            f"Expected {first + before[0] * before[1]} embeddings. Received: "
            f"{len(embeddings)}."
        )
    if before == after:
        return embeddings
    width = embeddings.shape[-1]
    grid = embeddings[first:].reshape(1, *before, width)
    resized = keras.ops.image.resize(grid, after, interpolation=interpolation)
    resized = keras.ops.convert_to_numpy(resized).reshape(-1, width)
    return np.concatenate([embeddings[:first], resized])


def _grid(backbone: keras_hub.models.ViTBackbone) -> tuple[int, int]:
    height, width = backbone.image_shape[:2]
    rows, columns = backbone.patch_size
    return height // rows, width // columns


def _preprocessor(preset: Path, side: int) -> keras_hub.models.Preprocessor:
    classes = keras_hub.models.ViTImageClassifierPreprocessor
    if (preset / "preprocessor.json").is_file():
        preprocessor = classes.from_preset(str(preset))
        preprocessor.image_size = (side, side)
        return preprocessor
    # From -1 to 1, as the original was trained.
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(side, side), scale=1 / 127.5, offset=-1.0
    )
    return classes(converter)


def _config(preset: Path) -> dict[str, Any]:
    path = preset / "config.json"
    try:
        read = json.loads(path.read_text("utf-8"))
        class_name, config = read["class_name"], read["config"]
    except OSError as error:
        raise InputError(
            f"--preset {preset}: {error.strerror}: config.json. Expected a "
            "directory written by KerasHub's `save_to_preset`."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"--preset {preset}: config.json is not a KerasHub config."
        ) from error
    if class_name != "ViTBackbone":
        raise InputError(
            f"--preset {preset}: expected a ViTBackbone, got {class_name}."
        )
    return config
