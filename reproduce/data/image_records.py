"""TFRecords of encoded images and their class indices."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.image_files import Encoded
from reproduce.data.image_files import Sources
from reproduce.data.image_folders import PARTS
from reproduce.data.texts import read_text

# The names of the image and of its label in an example.
FEATURES = (("image/encoded", "image/class/label"), ("image", "label"))
CLASS_NAMES = ("labels.txt", "classes.txt")
# Each class needs a row of weights: a label of 10^9 would exhaust the memory.
MAX_CLASSES = 1_000_000
# The bytes before a record (its length and a checksum) and after it (a
# checksum).
BEFORE, AFTER = 12, 4


def find_records(directory: Path) -> list[Path]:
    """Returns the TFRecord files of a directory."""
    return sorted(
        path
        for path in directory.iterdir()
        if path.is_file() and _is_record_name(path.name.lower())
    )


def _is_record_name(name: str) -> bool:
    suffixes = (".tfrecord", ".tfrecords")
    if name.endswith(suffixes) or any(f"{x}-" in name for x in suffixes):
        return True
    names = [each for names in PARTS.values() for each in names]
    return (
        name.partition("-")[0] in names and "-of-" in name and "." not in name
    )


def read_records(directory: Path) -> tuple[Sources, tuple[str, ...]]:
    """Finds the images in a directory's uncompressed TFRecords.

    The name of a file begins with the name of its part, for example
    `train-00000-of-00008`, and contains `.tfrecord` or `.tfrecords` at its end
    or before a hyphen. A file `labels.txt` or `classes.txt` names the classes,
    one per line. Without it, the names are numbers.

    Returns:
        The images of each part, and the class names.
    """
    parts: dict[str, tuple[list[Encoded], list[int]]] = {}
    for path in find_records(directory):
        sources, labels = parts.setdefault(_part_of(path), ([], []))
        for source, label in _read_file(path):
            sources.append(source)
            labels.append(label)
    if "train" not in parts:
        raise InputError(
            f"{directory}: expected TFRecords whose names begin with train, "
            f"got {', '.join(sorted(parts)) or 'none'}."
        )
    classes = _class_names(directory)
    if not classes:
        highest = max(parts["train"][1], default=0)
        classes = tuple(map(str, range(min(highest + 1, MAX_CLASSES))))
    for sources, labels in parts.values():
        wrong = [i for i, x in enumerate(labels) if not 0 <= x < len(classes)]
        if wrong:
            raise InputError(
                f"{sources[wrong[0]].name}: expected a label from 0 to "
                f"{len(classes) - 1}, got {labels[wrong[0]]}, one of "
                f"{len(wrong)} such. Correct it, or name all classes in "
                "labels.txt."
            )
    return {
        part: (sources, np.array(labels, "int32"))
        for part, (sources, labels) in parts.items()
    }, classes


def _part_of(path: Path) -> str:
    for part, names in PARTS.items():
        if path.name.lower().startswith(names):
            return part
    raise InputError(
        f"{path}: expected a name that begins with train, valid or test, got "
        f"{path.name}. Rename it."
    )


def _read_file(path: Path) -> Iterator[tuple[Encoded, int]]:
    # TensorFlow's reader is the only one that verifies checksums.
    import tensorflow as tf

    size = path.stat().st_size
    if size == 0:
        raise InputError(
            f"{path}: expected records, got 0 bytes. Fetch the file again."
        )
    count, offset = 0, BEFORE
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            name = f"{path}, record {count + 1}"
            image, label = _parse(name, record)
            start = offset + record.index(image)
            yield Encoded(name, partial(_open, path, start, len(image))), label
            count += 1
            offset += len(record) + AFTER + BEFORE
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        raise InputError(
            f"{path}: expected whole, uncompressed records, got {size} bytes "
            f"that are cut short or broken after record {count}. Fetch the "
            "file again."
        ) from error


def _open(path: Path, start: int, length: int) -> io.BytesIO:
    with path.open("rb") as file:
        file.seek(start)
        return io.BytesIO(file.read(length))


def _parse(name: str, record: bytes) -> tuple[bytes, int]:
    import tensorflow as tf

    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:
        raise InputError(
            f"{name}: expected a tf.train.Example, got {len(record)} other "
            "bytes."
        ) from error
    for image_name, label_name in FEATURES:
        if image_name in features and label_name in features:
            images = features[image_name].bytes_list.value
            labels = features[label_name].int64_list.value
            if len(images) == 1 and len(labels) == 1:
                return images[0], labels[0]
            raise InputError(
                f"{name}: expected one encoded {image_name} and one whole "
                f"number {label_name}, got {len(images)} and {len(labels)}."
            )
    raise InputError(
        f"{name}: expected the features "
        + ", or ".join(" and ".join(names) for names in FEATURES)
        + f", got {', '.join(sorted(features)) or 'none'}."
    )


def _class_names(directory: Path) -> tuple[str, ...]:
    for path in (directory / name for name in CLASS_NAMES):
        if path.is_file():
            lines = [line.strip() for line in read_text(path).splitlines()]
            names = tuple(filter(None, lines))
            if len(set(names)) != len(names):
                raise InputError(
                    f"{path}: expected different class names, got "
                    f"{len(names) - len(set(names))} of {len(names)} again."
                )
            return names
    return ()
