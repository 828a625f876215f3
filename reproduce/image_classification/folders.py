"""Image folders: a directory for each class, with PNG and JPEG files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reproduce.common.errors import InputError
from reproduce.image_classification.decoding import Encoded

SUFFIXES = (".png", ".jpg", ".jpeg")
# By what parts are called here, what they are called there.
PARTS = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}


@dataclass(frozen=True)
class Labeled:
    """Encoded images and, position by position, the name of each's class."""

    sources: list[Encoded]
    labels: list[str]


def find_folders(directory: Path) -> bool:
    """Whether a directory has directories of images."""
    return any(
        path.suffix.lower() in SUFFIXES
        for inner in _directories(directory)
        for path in [*inner.iterdir(), *inner.glob("*/*")]
    )


def read_folders(
    directory: Path,
) -> tuple[dict[str, Labeled], tuple[str, ...], dict[str, int]]:
    """Finds the images of a folder.

    It has directories `train` and, not required, `valid` and `test`, each
    with a directory for every class, or it has those of the classes itself.
    Hidden files are passed over, those of other suffixes are left out and
    counted.

    Args:
        directory: The folder.

    Returns:
        The parts, or one "all", the class names, sorted, and how many files
        were left out.

    Raises:
        InputError: If a directory is empty, or one of a class unknown.
    """
    inner = {path.name: path for path in _directories(directory)}
    found = {
        part: inner[name]
        for part, names in PARTS.items()
        for name in names
        if name in inner
    }
    if "train" in found:
        roots = found
        unknown = inner.keys() - {path.name for path in found.values()}
        if unknown:
            raise InputError(
                f"{directory}: expected train, valid and test, got "
                f"{', '.join(sorted(unknown))} beside them. Move it elsewhere."
            )
    else:
        roots = {"all": directory}
    skipped: dict[str, int] = {}
    parts = {part: _read(root, skipped) for part, root in roots.items()}
    first = next(iter(parts))
    classes = tuple(sorted(set(parts[first].labels)))
    if len(classes) < 2:
        raise InputError(
            f"{roots[first]}: expected directories of two or more classes, "
            f"got {', '.join(classes)}."
        )
    for part, labeled in parts.items():
        unknown = sorted(set(labeled.labels) - set(classes))
        if unknown:
            count = sum(label in unknown for label in labeled.labels)
            raise InputError(
                f"{roots[part] / unknown[0]}: expected classes that "
                f"{roots[first]} has, got {', '.join(unknown)} with {count} "
                "images. Move or rename it."
            )
    return parts, classes, skipped


def _read(root: Path, skipped: dict[str, int]) -> Labeled:
    sources, labels = [], []
    for folder in _directories(root):
        files = [
            path
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        ]
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not images:
            raise InputError(
                f"{folder}: expected images ({', '.join(SUFFIXES)}) of the "
                f"class {folder.name}, got {len(files)} other files. Add some, "
                "or remove the directory."
            )
        if len(files) > len(images):
            what = "files of other suffixes"
            more = len(files) - len(images)
            skipped[what] = skipped.get(what, 0) + more
        sources += [_encoded(path) for path in images]
        labels += [folder.name] * len(images)
    if not sources:
        raise InputError(
            f"{root}: expected a directory for each class, got none."
        )
    return Labeled(sources, labels)


def _encoded(path: Path) -> Encoded:
    def read(count: int) -> bytes:
        with path.open("rb") as file:
            return file.read(count)

    return Encoded(str(path), read)


def _directories(directory: Path) -> list[Path]:
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
