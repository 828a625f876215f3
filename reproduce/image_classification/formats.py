"""Which format a directory of images has, and the parts made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.image_classification.cifar import LAYOUTS
from reproduce.image_classification.cifar import find_cifar
from reproduce.image_classification.cifar import load_cifar
from reproduce.image_classification.data import Dataset
from reproduce.image_classification.data import Part
from reproduce.image_classification.data import split
from reproduce.image_classification.decoding import images_of
from reproduce.image_classification.folders import find_folders
from reproduce.image_classification.folders import read_folders
from reproduce.image_classification.records import find_records
from reproduce.image_classification.records import read_records
from reproduce.image_classification.tfds import load_tfds

FORMATS = ("auto", *LAYOUTS, "folder", "tfrecord", "tfds")
# What is held out where the data have no part of their own.
HELD_OUT = 0.1


def load_directory(
    directory: Path,
    kind: str = "auto",
    side: int | None = None,
    train_images: int | None = None,
    tfds: str | None = None,
) -> Dataset:
    """Reads images and labels.

    Where they have no validation part, a tenth of the training part becomes
    one, and so with the test part: the same images every time, and of each
    class its share.

    Args:
        directory: Where they are.
        kind: One of `FORMATS`.
        side: The side to which images are resized that may differ in size,
            those of folders, TFRecords and tensorflow-datasets.
        train_images: Train on so many, None for all.
        tfds: The name of the data set, for tensorflow-datasets.

    Raises:
        InputError: If there is nothing of that format, or something in it is
            broken.
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
    skipped: dict[str, int] = {}
    if kind in LAYOUTS:
        name, classes, train, test = load_cifar(kind, directory)
        parts = {"train": train, "test": test}
    elif kind == "folder":
        name = directory.resolve().name
        parts, classes, skipped = _folder_parts(directory, side)
    elif kind == "tfrecord":
        name = directory.resolve().name
        parts, classes = _record_parts(directory, side)
    else:
        name = tfds
        parts, classes = load_tfds(tfds, directory, side)
    train, valid, test = _three_parts(directory, parts, train_images)
    return Dataset(name, classes, train, valid, test, skipped)


def _format_of(directory: Path) -> str:
    found = find_cifar(directory)
    if found is not None:
        return found[0]
    if find_records(directory):
        return "tfrecord"
    if find_folders(directory):
        return "folder"
    files = sorted(path.name for path in directory.iterdir())
    raise InputError(
        f"--data {directory}: expected the files of CIFAR-10 or CIFAR-100, "
        "a directory of images for each class, or TFRecords, got "
        f"{', '.join(files[:5]) or 'an empty directory'}"
        f"{' ...' if len(files) > 5 else ''}. Name another directory, or the "
        "--format."
    )


def _folder_parts(
    directory: Path, side: int | None
) -> tuple[dict[str, Part], tuple[str, ...], dict[str, int]]:
    found, classes, skipped = read_folders(directory)
    index_of = {name: index for index, name in enumerate(classes)}
    parts = {
        part: Part(
            images_of(labeled.sources, side),
            np.array([index_of[name] for name in labeled.labels], "int32"),
        )
        for part, labeled in found.items()
    }
    return parts, classes, skipped


def _record_parts(
    directory: Path, side: int | None
) -> tuple[dict[str, Part], tuple[str, ...]]:
    found, classes = read_records(directory)
    if "train" not in found:
        raise InputError(
            f"{directory}: expected TFRecords whose names begin with train, "
            f"got {', '.join(sorted(found)) or 'none'}."
        )
    if classes is None:
        highest = max(found["train"][1], default=0)
        classes = tuple(str(label) for label in range(highest + 1))
    for sources, labels in found.values():
        for source, label in zip(sources, labels):
            if not 0 <= label < len(classes):
                count = sum(not 0 <= n < len(classes) for n in labels)
                raise InputError(
                    f"{source.name}: expected a label from 0 to "
                    f"{len(classes) - 1}, got {label}, one of {count} such. "
                    "Correct it, or name all classes in labels.txt."
                )
    parts = {
        part: Part(images_of(sources, side), np.array(labels, "int32"))
        for part, (sources, labels) in found.items()
    }
    return parts, classes


def _three_parts(
    directory: Path, parts: dict[str, Part], train_images: int | None
) -> list[Part]:
    parts = dict(parts)
    if "all" in parts:
        parts["train"] = parts.pop("all")
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
