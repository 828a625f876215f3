"""Image folders: a directory of PNG and JPEG files for each class."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.image_files import Encoded
from reproduce.data.image_files import Sources

SUFFIXES = (".png", ".jpg", ".jpeg")
# The names of the directories and files of each part.
PARTS = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}


def has_folders(directory: Path) -> bool:
    """Returns whether a directory contains directories of images."""
    return any(
        path.suffix.lower() in SUFFIXES
        for inner in _directories(directory)
        for path in [*inner.iterdir(), *inner.glob("*/*")]
    )


def read_folders(
    directory: Path,
) -> tuple[Sources, tuple[str, ...], dict[str, int]]:
    """Finds the images of a directory that has a directory for each class.

    The class directories are in `train` and, optionally, `valid` and `test`, or
    in the directory itself. Hidden files are ignored. Files with other
    suffixes are skipped and counted.

    Returns:
        The images of each part, or of one part "all"; the class names in
        order; and the number of skipped files.
    """
    inner = {path.name: path for path in _directories(directory)}
    roots = {
        part: inner[name]
        for part, names in PARTS.items()
        for name in names
        if name in inner
    }
    if "train" not in roots:
        roots = {"all": directory}
    elif others := inner.keys() - {path.name for path in roots.values()}:
        raise InputError(
            f"{directory}: expected train, valid and test, got "
            f"{', '.join(sorted(others))} beside them. Move it elsewhere."
        )
    first = next(iter(roots.values()))
    classes = tuple(path.name for path in _directories(first))
    if len(classes) < 2:
        raise InputError(
            f"{first}: expected directories of two or more classes, got "
            f"{', '.join(classes) or 'none'}."
        )
    parts, skipped = {}, 0
    for part, root in roots.items():
        sources, labels = [], []
        for folder in _directories(root):
            files = [
                path
                for path in sorted(folder.rglob("*"))
                if path.is_file() and not path.name.startswith(".")
            ]
            images = [x for x in files if x.suffix.lower() in SUFFIXES]
            if not images:
                raise InputError(
                    f"{folder}: expected images ({', '.join(SUFFIXES)}) of the "
                    f"class {folder.name}, got {len(files)} other files. Add "
                    "some, or remove the directory."
                )
            if folder.name not in classes:
                raise InputError(
                    f"{folder}: expected classes that {first} has, got "
                    f"{folder.name} with {len(images)} images. Move or rename "
                    "it."
                )
            skipped += len(files) - len(images)
            sources += [Encoded(str(x), partial(x.open, "rb")) for x in images]
            labels += [classes.index(folder.name)] * len(images)
        parts[part] = sources, np.array(labels, "int32")
    counts = {"files of other suffixes": skipped} if skipped else {}
    return parts, classes, counts


def _directories(directory: Path) -> list[Path]:
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
