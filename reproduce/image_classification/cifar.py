"""CIFAR-10 and CIFAR-100, as Python pickles or as binary files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.common.errors import InputError
from reproduce.image_classification.data import Part
from reproduce.image_classification.pickles import load_arrays

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE


@dataclass(frozen=True)
class Layout:
    """The files of one of the two, and what is in them.

    Attributes:
        name: What it is called.
        train: The files of the training part.
        test: The file of the test part.
        label: The key of the labels in a pickle.
        names: The file of the class names, and the key of them in a pickle.
        binary_names: The file of the class names beside binary files.
        label_bytes: How many bytes of labels come before a binary image, of
            which the last is the one that counts.
        num_classes: How many classes there are.
    """

    name: str
    train: tuple[str, ...]
    test: str
    label: bytes
    names: tuple[str, bytes]
    binary_names: str
    label_bytes: int
    num_classes: int


LAYOUTS = {
    "cifar10": Layout(
        name="CIFAR-10",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        label=b"labels",
        names=("batches.meta", b"label_names"),
        binary_names="batches.meta.txt",
        label_bytes=1,
        num_classes=10,
    ),
    "cifar100": Layout(
        name="CIFAR-100",
        train=("train",),
        test="test",
        label=b"fine_labels",
        names=("meta", b"fine_label_names"),
        binary_names="fine_label_names.txt",
        label_bytes=2,
        num_classes=100,
    ),
}
# What the published archives unpack to.
FOLDERS = (
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-100-python",
    "cifar-100-binary",
)


def find_cifar(directory: Path) -> tuple[str, Path] | None:
    """Returns which of the two a directory has, and where, or None."""
    folders = [directory, *(directory / name for name in FOLDERS)]
    for folder in folders:
        for kind, layout in LAYOUTS.items():
            # A folder of images may have directories of the same names.
            if any(
                (folder / f"{layout.train[0]}{suffix}").is_file()
                for suffix in ("", ".bin")
            ):
                return kind, folder
    return None


def load_cifar(
    kind: str, directory: Path
) -> tuple[str, tuple[str, ...], Part, Part]:
    """Reads one of the two.

    Args:
        kind: One of `LAYOUTS`.
        directory: The one that has the files, or the one in which the
            published archive was unpacked.

    Returns:
        Its name, the names of its classes, training and test part.

    Raises:
        InputError: If a file is missing, or not what it should be. A pickle
            may hold nothing but arrays, lists, dicts, text and numbers;
            nothing in it is run.
    """
    layout = LAYOUTS[kind]
    found = find_cifar(directory)
    if found is None or found[0] != kind:
        raise InputError(
            f"{directory}: expected {layout.train[0]} or "
            f"{layout.train[0]}.bin of {layout.name} in it. Unpack the "
            "published archive there."
        )
    folder = found[1]
    binary = (folder / f"{layout.train[0]}.bin").is_file()
    suffix = ".bin" if binary else ""
    read: Callable[[Layout, Path], Part] = (
        _read_binary if binary else _read_pickle
    )
    needed = [f"{name}{suffix}" for name in (*layout.train, layout.test)]
    needed.append(layout.binary_names if binary else layout.names[0])
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(needed)} files of "
            f"{layout.name} are missing: {', '.join(missing)}. Unpack the "
            "published archive again."
        )
    classes = (
        _binary_names(layout, folder) if binary else _names(layout, folder)
    )
    train = [read(layout, folder / f"{name}{suffix}") for name in layout.train]
    return (
        layout.name,
        classes,
        Part(
            np.concatenate([part.images for part in train]),
            np.concatenate([part.labels for part in train]),
        ),
        read(layout, folder / f"{layout.test}{suffix}"),
    )


def _read_pickle(layout: Layout, path: Path) -> Part:
    content = _dict_of(path)
    images = content.get(b"data")
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.shape[1:] != (PIXELS,)
        or len(images) == 0
    ):
        raise InputError(
            f"{path}: expected `data` of {PIXELS} bytes an image, got "
            f"{_describe(images)}. Unpack the published archive again."
        )
    labels = content.get(layout.label)
    if not isinstance(labels, list) or len(labels) != len(images):
        raise InputError(
            f"{path}: expected {len(images)} {layout.label.decode()}, one "
            f"for each image, got {_describe(labels)}. Unpack the published "
            "archive again."
        )
    return _part(layout, path, images, labels)


def _read_binary(layout: Layout, path: Path) -> Part:
    content = path.read_bytes()
    record = layout.label_bytes + PIXELS
    if not content or len(content) % record:
        raise InputError(
            f"{path}: expected records of {record} bytes, got {len(content)} "
            f"bytes, which end {len(content) % record} bytes into record "
            f"{len(content) // record + 1}. Unpack the published archive "
            "again."
        )
    rows = np.frombuffer(content, "uint8").reshape(-1, record)
    labels = rows[:, layout.label_bytes - 1].tolist()
    return _part(layout, path, rows[:, layout.label_bytes :], labels)


def _part(layout: Layout, path: Path, rows: np.ndarray, labels: list) -> Part:
    wrong = [
        row
        for row, label in enumerate(labels)
        if type(label) is not int or not 0 <= label < layout.num_classes
    ]
    if wrong:
        raise InputError(
            f"{path}: expected labels from 0 to {layout.num_classes - 1}, got "
            f"{labels[wrong[0]]!r} of image {wrong[0]} (counted from 0), one "
            f"of {len(wrong)} such. Check that this is {layout.name}."
        )
    # They hold all of red, then all of green, then all of blue.
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(np.ascontiguousarray(images), np.array(labels, "int32"))


def _names(layout: Layout, folder: Path) -> tuple[str, ...]:
    file, key = layout.names
    names = _dict_of(folder / file).get(key)
    if not isinstance(names, list) or not all(
        isinstance(name, (str, bytes)) for name in names
    ):
        raise InputError(
            f"{folder / file}: expected a list {key.decode()}, got "
            f"{_describe(names)}. Unpack the published archive again."
        )
    decoded = [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else name
        for name in names
    ]
    return _checked_names(layout, folder / file, decoded)


def _binary_names(layout: Layout, folder: Path) -> tuple[str, ...]:
    path = folder / layout.binary_names
    lines = path.read_text("utf-8", "replace").splitlines()
    return _checked_names(layout, path, [line for line in lines if line])


def _checked_names(
    layout: Layout, path: Path, names: list[str]
) -> tuple[str, ...]:
    if len(names) != layout.num_classes or len(set(names)) != len(names):
        raise InputError(
            f"{path}: expected {layout.num_classes} different class names, "
            f"got {len(names)}, {len(set(names))} of them different. Unpack "
            "the published archive again."
        )
    return tuple(names)


def _dict_of(path: Path) -> dict[Any, Any]:
    content = load_arrays(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a dict, got {_describe(content)}. Unpack the "
            "published archive again."
        )
    # Written by Python 2, keys are bytes, by Python 3 text.
    return {
        key.encode() if isinstance(key, str) else key: value
        for key, value in content.items()
    }


def _describe(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"
