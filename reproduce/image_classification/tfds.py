"""Data sets of tensorflow-datasets that are on this machine already."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.common.tfds import open_prepared
from reproduce.image_classification.data import Part


def load_tfds(
    name: str, directory: Path, side: int | None
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Reads a data set from the directory where it was prepared.

    Nothing is downloaded. All images are held in memory.

    Args:
        name: What tensorflow-datasets calls it, `cifar10` for instance.
        directory: Its `data_dir`.
        side: The side of the squares to which images are resized. None leaves
            them, and needs all to be of one size.

    Returns:
        The parts, and the class names.

    Raises:
        InputError: If the package or the data set is not there, or it is none
            of images and labels.
    """
    builder, splits = open_prepared(name, directory, ("image", "label"))
    label = builder.info.features["label"]
    names = getattr(label, "names", None)
    if not names:
        raise InputError(
            f"--tfds {name}: expected a label of named classes, got "
            f"{type(label).__name__}."
        )
    parts = {
        part: _read(builder.as_dataset(split=split), side, name, split)
        for part, split in splits.items()
    }
    return parts, tuple(names)


def _read(
    examples: tf.data.Dataset, side: int | None, name: str, split: str
) -> Part:
    images, labels = [], []
    for example in examples.as_numpy_iterator():
        image = example["image"]
        if side is not None and image.shape[:2] != (side, side):
            resized = tf.image.resize(image, (side, side), antialias=True)
            image = tf.cast(tf.round(resized), tf.uint8).numpy()
        if images and image.shape != images[0].shape:
            raise InputError(
                f"--tfds {name}: expected images of one shape, "
                f"{images[0].shape} as the first of {split}, got "
                f"{image.shape} at number {len(images) + 1}. Give "
                "--image-size."
            )
        images.append(image)
        labels.append(example["label"])
    return Part(_stacked(images, name, split), np.array(labels, "int32"))


def _stacked(images: Sequence[np.ndarray], name: str, split: str) -> np.ndarray:
    if not images:
        raise InputError(
            f"--tfds {name}: expected images in {split}, got none."
        )
    return np.stack(images)
