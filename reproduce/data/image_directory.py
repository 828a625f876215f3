"""Images in a directory, in any supported format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.common.tfds import open_prepared
from reproduce.data import cifar
from reproduce.data import image_folders
from reproduce.data import image_records
from reproduce.data.image_files import images_of
from reproduce.data.image_files import resized
from reproduce.data.images import Dataset
from reproduce.data.images import Part
from reproduce.data.images import split

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
    class. Images, except CIFAR's, are resized to squares of the given side. The
    other arguments are the flags `--format`, `--train-images` and `--tfds`.
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
    if kind in cifar.LAYOUTS:
        name, classes, parts = cifar.load_cifar(kind, directory)
    elif kind == "tfds":
        name = tfds
        parts, classes = _load_tfds(tfds, directory, side)
    else:
        if kind == "folder":
            found, classes, skipped = image_folders.read_folders(directory)
        else:
            found, classes = image_records.read_records(directory)
        parts = {
            part: Part(images_of(sources, side), labels)
            for part, (sources, labels) in found.items()
        }
    train, valid, test = _three_parts(directory, parts, train_images)
    return Dataset(name, classes, train, valid, test, skipped)


def _format_of(directory: Path) -> str:
    found = cifar.find_cifar(directory)
    if found is not None:
        return found[0]
    if image_records.find_records(directory):
        return "tfrecord"
    if image_folders.has_folders(directory):
        return "folder"
    files = sorted(path.name for path in directory.iterdir())
    raise InputError(
        f"--data {directory}: expected the files of CIFAR-10 or CIFAR-100, "
        "a directory of images for each class, or TFRecords, got "
        f"{', '.join(files[:5]) or 'an empty directory'}"
        f"{' ...' if len(files) > 5 else ''}. Name another directory, or the "
        "--format."
    )


def _load_tfds(
    name: str, directory: Path, side: int | None
) -> tuple[dict[str, Part], tuple[str, ...]]:
    builder, splits = open_prepared(name, directory, ("image", "label"))
    label = builder.info.features["label"]
    if not getattr(label, "names", None):
        raise InputError(
            f"--tfds {name}: expected a label of named classes, got "
            f"{type(label).__name__}."
        )
    parts = {}
    for part, each in splits.items():
        examples = builder.as_dataset(split=each).as_numpy_iterator()
        parts[part] = _read_split(examples, side, f"--tfds {name}, {each}")
    return parts, tuple(label.names)


def _read_split(examples: Iterable[dict], side: int | None, where: str) -> Part:
    images, labels = [], []
    for example in examples:
        image = example["image"]
        if side is not None:
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
        sizes = [f"{w}x{h} in {part}" for part, (h, w, _) in shapes.items()]
        raise InputError(
            f"{directory}: expected images of one size in all parts, got "
            f"{', '.join(sizes)}. Give --image-size."
        )
    if len(parts["train"]) == 0:
        raise InputError(
            f"{directory}: expected images to train on, got "
            f"{len(parts['test']) + len(parts['valid'])} in all, held out for "
            "validation and test. Add some."
        )
    return [parts[part] for part in ("train", "valid", "test")]
