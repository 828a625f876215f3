"""TFRecords of encoded images and their class indices."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.image_classification.decoding import Encoded

# Names of the features, of the image and of its label.
FEATURES = (("image/encoded", "image/class/label"), ("image", "label"))
CLASS_NAMES = ("labels.txt", "classes.txt")
# By what parts are called here, how the names of their files begin.
PARTS = {
    "train": ("train",),
    "valid": ("valid", "val", "validation"),
    "test": ("test",),
}
# Length and its checksum before what a record holds, a checksum after it.
BEFORE, AFTER = 12, 4


def find_records(directory: Path) -> list[Path]:
    """Returns the TFRecord files of a directory."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_file() and _is_record_name(path.name)
    )


def read_records(
    directory: Path,
) -> tuple[dict[str, tuple[list[Encoded], list[int]]], tuple[str, ...] | None]:
    """Finds the images in a directory's TFRecords.

    The name of a file begins with that of its part, `train-00000-of-00008`
    for instance, and ends in `.tfrecord` or `.tfrecords` or has it before a
    hyphen. Not compressed. A file `labels.txt` or `classes.txt` names the
    classes, one a line; else they are called by their numbers.

    Args:
        directory: Where the files are.

    Returns:
        For each part the images and their labels; and the class names, if
        there is a file of them.

    Raises:
        InputError: If a file is empty, cut short or broken, or a record lacks
            an image or a label. The message names file and record.
    """
    parts: dict[str, tuple[list[Encoded], list[int]]] = {}
    for path in find_records(directory):
        sources, labels = parts.setdefault(_part_of(path), ([], []))
        for source, label in _read_file(path):
            sources.append(source)
            labels.append(label)
    return parts, _class_names(directory)


def _read_file(path: Path) -> list[tuple[Encoded, int]]:
    found: list[tuple[Encoded, int]] = []
    offset = 0
    if path.stat().st_size == 0:
        raise InputError(
            f"{path}: expected records, got 0 bytes. Fetch the file again."
        )
    try:
        # It compares the checksums, too.
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            number = len(found)
            _, label = _parse(path, number, record)
            found.append(
                (_encoded(path, number, offset + BEFORE, len(record)), label)
            )
            offset += BEFORE + len(record) + AFTER
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        raise InputError(
            f"{path}: expected whole, uncompressed records, got "
            f"{path.stat().st_size} bytes that are cut short or broken after "
            f"record {len(found)}. Fetch the file again."
        ) from error
    return found


def _encoded(path: Path, number: int, start: int, length: int) -> Encoded:
    def read(count: int) -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            image, _ = _parse(path, number, file.read(length))
        return image if count < 0 else image[:count]

    return Encoded(f"{path}, record {number + 1}", read)


def _parse(path: Path, number: int, record: bytes) -> tuple[bytes, int]:
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:
        raise InputError(
            f"{path}, record {number + 1}: expected a tf.train.Example, got "
            f"{len(record)} other bytes."
        ) from error
    for image_name, label_name in FEATURES:
        if image_name in features and label_name in features:
            images = features[image_name].bytes_list.value
            labels = features[label_name].int64_list.value
            if len(images) == 1 and len(labels) == 1:
                return images[0], labels[0]
            raise InputError(
                f"{path}, record {number + 1}: expected one encoded "
                f"{image_name} and one whole number {label_name}, got "
                f"{len(images)} and {len(labels)}."
            )
    raise InputError(
        f"{path}, record {number + 1}: expected the features "
        + ", or ".join(" and ".join(names) for names in FEATURES)
        + f", got {', '.join(sorted(features)) or 'none'}."
    )


def _part_of(path: Path) -> str:
    for part, names in PARTS.items():
        if path.name.lower().startswith(names):
            return part
    raise InputError(
        f"{path}: expected a name that begins with train, valid or test, got "
        f"{path.name}. Rename it."
    )


def _is_record_name(name: str) -> bool:
    name = name.lower()
    return any(
        name.endswith(suffix) or f"{suffix}-" in name
        for suffix in (".tfrecord", ".tfrecords")
    ) or any(
        name.startswith(f"{part}-") and "-of-" in name and "." not in name
        for names in PARTS.values()
        for part in names
    )


def _class_names(directory: Path) -> tuple[str, ...] | None:
    for name in CLASS_NAMES:
        path = directory / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: not UTF-8. Save the file as UTF-8."
            ) from error
        names = tuple(line.strip() for line in lines if line.strip())
        if len(set(names)) != len(names):
            raise InputError(
                f"{path}: expected different class names, got "
                f"{len(names) - len(set(names))} of {len(names)} again."
            )
        return names
    return None
