"""TFRecords of encoded images and their class indices."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.image_files import Encoded
from reproduce.data.image_folders import PARTS

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


def read_records(
    directory: Path,
) -> tuple[dict[str, tuple[list[Encoded], np.ndarray]], tuple[str, ...]]:
    """Finds the images in a directory's uncompressed TFRecords.

    The name of a file begins with the name of its part, for example
    `train-00000-of-00008`, and contains `.tfrecord` or `.tfrecords` at its end
    or before a hyphen. A file `labels.txt` or `classes.txt` names the classes,
    one per line. Without it, the names are numbers.

    Returns:
        The images and labels of each part, and the class names.

    Raises:
        InputError: If a file is empty, truncated or corrupt, or a record lacks
            an image or a label. The message names file and record.
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
    count = len(classes)
    if not classes:
        count = min(max(parts["train"][1], default=0) + 1, MAX_CLASSES)
    for sources, labels in parts.values():
        wrong = [i for i, x in enumerate(labels) if not 0 <= x < count]
        if wrong:
            raise InputError(
                f"{sources[wrong[0]].name}: expected a label from 0 to "
                f"{count - 1}, got {labels[wrong[0]]}, one of {len(wrong)} "
                "such. Correct it, or name all classes in labels.txt."
            )
    return (
        {part: (s, np.array(x, "int32")) for part, (s, x) in parts.items()},
        classes or tuple(map(str, range(count))),
    )


def _read_file(path: Path) -> Iterator[tuple[Encoded, int]]:
    # TensorFlow's reader is the only one that verifies checksums.
    import tensorflow as tf

    if path.stat().st_size == 0:
        raise InputError(
            f"{path}: expected records, got 0 bytes. Fetch the file again."
        )
    count, offset = 0, 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            name = f"{path}, record {count + 1}"
            _, label = _parse(name, record)
            yield _encoded(name, path, offset + BEFORE, len(record)), label
            count += 1
            offset += BEFORE + len(record) + AFTER
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
        raise InputError(
            f"{path}: expected whole, uncompressed records, got "
            f"{path.stat().st_size} bytes that are cut short or broken after "
            f"record {count}. Fetch the file again."
        ) from error


def _encoded(name: str, path: Path, start: int, length: int) -> Encoded:
    def read() -> io.BytesIO:
        with path.open("rb") as file:
            file.seek(start)
            image, _ = _parse(name, file.read(length))
        return io.BytesIO(image)

    return Encoded(name, read)


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


def _part_of(path: Path) -> str:
    for part, names in PARTS.items():
        if path.name.lower().startswith(names):
            return part
    raise InputError(
        f"{path}: expected a name that begins with train, valid or test, got "
        f"{path.name}. Rename it."
    )


def _is_record_name(name: str) -> bool:
    suffixes = (".tfrecord", ".tfrecords")
    if name.endswith(suffixes) or any(f"{x}-" in name for x in suffixes):
        return True
    part = name.partition("-")[0]
    names = [each for names in PARTS.values() for each in names]
    return part in names and "-of-" in name and "." not in name


def _class_names(directory: Path) -> tuple[str, ...]:
    path = next(
        (directory / x for x in CLASS_NAMES if (directory / x).is_file()), None
    )
    if path is None:
        return ()
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
