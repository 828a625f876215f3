"""Images in a directory, in any supported format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from reproduce.common.errors import InputError
from reproduce.common.tfds import open_prepared
from reproduce.data.cifar import LAYOUTS
from reproduce.data.cifar import find_cifar
from reproduce.data.cifar import load_cifar
from reproduce.data.image_files import images_of
from reproduce.data.image_folders import has_folders
from reproduce.data.image_folders import read_folders
from reproduce.data.image_records import find_records
from reproduce.data.image_records import read_records
from reproduce.data.images import Dataset
from reproduce.data.images import Part
from reproduce.data.images import split

FORMATS = ("auto", *LAYOUTS, "folder", "tfrecord", "tfds")
# The share held out from training data without a validation or test part.
HELD_OUT = 0.1


def load_directory(
    directory: Path,
    kind: str = "auto",
    side: int | None = None,
    train_images: int | None = None,
    tfds: str | None = None,
) -> Dataset:
    """Reads images and labels.

    If the data have no validation part, a tenth of the training part becomes
    one, and likewise the test part: the same images every time, stratified by
    class.

    Args:
        directory: The directory.
        kind: One of `FORMATS`.
        side: The side of the squares to resize images to. It applies to
            folders, TFRecords and tensorflow-datasets.
        train_images: The size of the training part, None for all images.
        tfds: The name of the dataset in tensorflow-datasets.

    Raises:
        InputError: If the directory has no data of that format, or the data
            are corrupt.
    """
    if not directory.is_dir():
        raise InputError(
            f"--data {directory}: expected a directory of images, got "
            f"{'a file' if directory.exists() else 'nothing there'}."
        )
    if kind == "auto":
        kind = "tfds" if tfds else _format_of(directory)
    if (kind == "tfds") != bool(tfds):
        raise InputError(
            "Expected --format tfds and --tfds NAME together, got "
            f"--format {kind} and --tfds {tfds}."
        )
    name, skipped = directory.resolve().name, {}
    if kind in LAYOUTS:
        name, classes, train, test = load_cifar(kind, directory)
        parts = {"train": train, "test": test}
    elif kind == "tfds":
        name = tfds
        parts, classes = load_tfds(tfds, directory, side)
    else:
        if kind == "folder":
            found, classes, skipped = read_folders(directory)
        else:
            found, classes = read_records(directory)
        parts = {
            part: Part(images_of(sources, side), labels)
            for part, (sources, labels) in found.items()
        }
    train, valid, test = _three_parts(directory, parts, train_images)
    return Dataset(name, classes, train, valid, test, skipped)


def load_tfds(
    name: str, directory: Path, side: int | None
) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Reads a prepared dataset of tensorflow-datasets into memory.

    Nothing is downloaded.

    Args:
        name: The name in tensorflow-datasets, for example `cifar10`.
        directory: The `data_dir` of tensorflow-datasets.
        side: The side of the squares to resize images to. None keeps their
            size, which must then be the same for all.

    Returns:
        The parts, and the class names.

    Raises:
        InputError: If the package or the dataset is missing, or its features
            are not an image and a label.
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
        part: _read_split(
            builder.as_dataset(split=split).as_numpy_iterator(),
            side,
            f"--tfds {name}, {split}",
        )
        for part, split in splits.items()
    }
    return parts, tuple(names)


def _read_split(examples: Iterable[dict], side: int | None, where: str) -> Part:
    images, labels = [], []
    for example in examples:
        image = example["image"]
        if side is not None and image.shape[:2] != (side, side):
            image = resized(image, side, side)
        if images and image.shape != images[0].shape:
            raise InputError(
                f"{where}: expected images of one shape, {images[0].shape} as "
                f"the first, got {image.shape} at number {len(images) + 1}. "
                "Give --image-size."
            )
        images.append(image)
        labels.append(example["label"])
    if not images:
        raise InputError(f"{where}: expected images, got none.")
    return Part(np.stack(images), np.array(labels, "int32"))


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a resized image, bilinear and antialiased."""
    # Channel by channel, because Pillow supports only 1, 3 and 4 channels.
    channels = [
        Image.fromarray(channel).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _format_of(directory: Path) -> str:
    found = find_cifar(directory)
    if found is not None:
        return found[0]
    if find_records(directory):
        return "tfrecord"
    if has_folders(directory):
        return "folder"
    files = sorted(path.name for path in directory.iterdir())
    raise InputError(
        f"--data {directory}: expected the files of CIFAR-10 or CIFAR-100, "
        "a directory of images for each class, or TFRecords, got "
        f"{', '.join(files[:5]) or 'an empty directory'}"
        f"{' ...' if len(files) > 5 else ''}. Name another directory, or the "
        "--format."
    )


def _three_parts(
    directory: Path, parts: dict[str, Part], train_images: int | None
) -> list[Part]:
    if "all" in parts:
        parts = {"train": parts["all"]}
    if "train" not in parts:
        raise InputError(
            f"{directory}: expected a training part, got "
            f"{', '.join(parts) or 'none'}."
        )
    for part in ("test", "valid"):
        if part not in parts:
            count = max(round(HELD_OUT * len(parts["train"])), 1)
            parts[part], parts["train"] = split(parts["train"], (count,))
    if train_images is not None:
        parts["train"], _ = split(parts["train"], (train_images,))
    shapes = {part: parts[part].images.shape[1:] for part in parts}
    if len(set(shapes.values())) > 1:
        raise InputError(
            f"{directory}: expected images of one size in all parts, got "
            + ", ".join(
                f"{width}x{height} in {part}"
                for part, (height, width, _) in shapes.items()
            )
            + ". Give --image-size."
        )
    if len(parts["train"]) == 0:
        raise InputError(
            f"{directory}: expected images to train on, got "
            f"{len(parts['test']) + len(parts['valid'])} in all, held out for "
            "validation and test. Add some."
        )
    return [parts[part] for part in ("train", "valid", "test")]
