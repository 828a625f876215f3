"""CIFAR-10 and CIFAR-100, as Python pickles or as binary files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any
from typing import NamedTuple

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.images import Part

SIDE, CHANNELS = 32, 3
PIXELS = CHANNELS * SIDE * SIDE
AGAIN = "Unpack the published archive again."


class Layout(NamedTuple):
    """The names of a dataset's files, as Python pickles and as binary files."""

    name: str
    train: tuple[str, ...]
    test: str
    # The key of the labels, and the pickle of the class names and their key.
    label: str
    names: tuple[str, str]
    # The file of the class names, and the number of label bytes before an
    # image, of which only the last one is used.
    binary_names: str
    label_bytes: int
    num_classes: int
    # The folders in the published archives.
    folders: tuple[str, str]


LAYOUTS = {
    "cifar10": Layout(
        "CIFAR-10",
        tuple(f"data_batch_{number}" for number in range(1, 6)),
        "test_batch",
        "labels",
        ("batches.meta", "label_names"),
        "batches.meta.txt",
        1,
        10,
        ("cifar-10-batches-py", "cifar-10-batches-bin"),
    ),
    "cifar100": Layout(
        "CIFAR-100",
        ("train",),
        "test",
        "fine_labels",
        ("meta", "fine_label_names"),
        "fine_label_names.txt",
        2,
        100,
        ("cifar-100-python", "cifar-100-binary"),
    ),
}


def find_cifar(directory: Path) -> tuple[str, Path] | None:
    """Returns the format and the folder of the dataset, or None."""
    for kind, layout in LAYOUTS.items():
        for folder in (directory, *(directory / x for x in layout.folders)):
            # A folder of images may contain directories of the same names.
            first = folder / layout.train[0]
            if first.is_file() or first.with_suffix(".bin").is_file():
                return kind, folder
    return None


def load_cifar(
    kind: str, directory: Path
) -> tuple[str, tuple[str, ...], dict[str, Part]]:
    """Reads the unpacked files of the published archives.

    Returns:
        The name, the class names, and the training and the test part.
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
    paths = [folder / f"{x}{suffix}" for x in (*layout.train, layout.test)]
    names = folder / (layout.binary_names if binary else layout.names[0])
    missing = [path.name for path in (*paths, names) if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(paths) + 1} files of "
            f"{layout.name} are missing: {', '.join(missing)}. {AGAIN}"
        )
    read = _read_binary if binary else _read_pickle
    *parts, test = (_part(layout, path, *read(layout, path)) for path in paths)
    train = Part(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )
    classes = _class_names(layout, names, binary)
    return layout.name, classes, {"train": train, "test": test}


def _read_pickle(layout: Layout, path: Path) -> tuple[np.ndarray, list]:
    content = _dict_of(path)
    images, labels = content.get("data"), content.get(layout.label)
    dtype, shape = getattr(images, "dtype", None), np.shape(images)
    if dtype != np.uint8 or shape[1:] != (PIXELS,) or shape[0] == 0:
        raise InputError(
            f"{path}: expected `data` of {PIXELS} bytes an image, got "
            f"{type(images).__name__} of {dtype} with shape {shape}. {AGAIN}"
        )
    if not isinstance(labels, list) or len(labels) != len(images):
        raise InputError(
            f"{path}: expected {len(images)} {layout.label}, one for each "
            f"image, got {type(labels).__name__} of {np.size(labels)}. {AGAIN}"
        )
    return images, labels


def _read_binary(layout: Layout, path: Path) -> tuple[np.ndarray, list]:
    content = path.read_bytes()
    record = layout.label_bytes + PIXELS
    if not content or len(content) % record:
        raise InputError(
            f"{path}: expected records of {record} bytes, got {len(content)} "
            f"bytes, which end {len(content) % record} bytes into record "
            f"{len(content) // record + 1}. {AGAIN}"
        )
    rows = np.frombuffer(content, "uint8").reshape(-1, record)
    labels = rows[:, layout.label_bytes - 1].tolist()
    return rows[:, layout.label_bytes :], labels


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
    # A row holds the red channel, then green, then blue.
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(np.ascontiguousarray(images), np.array(labels, "int32"))


def _class_names(layout: Layout, path: Path, binary: bool) -> tuple[str, ...]:
    if binary:
        names = path.read_text("utf-8", "replace").split("\n")
    else:
        names = _dict_of(path).get(layout.names[1]) or []
    names = tuple(filter(None, (_text(name).strip() for name in names)))
    if len(names) != layout.num_classes or len(set(names)) != len(names):
        raise InputError(
            f"{path}: expected {layout.num_classes} different class names, "
            f"got {len(names)}, {len(set(names))} of them different. {AGAIN}"
        )
    return names


def _dict_of(path: Path) -> dict[str, Any]:
    content = load_arrays(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a dict, got {type(content).__name__}. {AGAIN}"
        )
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    # Python 2 pickled strings as bytes.
    is_bytes = isinstance(value, bytes)
    return value.decode("utf-8", "replace") if is_bytes else str(value)


def load_arrays(path: Path) -> Any:
    """Reads a pickle of arrays, lists, dicts, text and numbers.

    A pickle names functions to call. Only the functions that NumPy arrays need
    are allowed. All others are refused before they are imported.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
            rest = len(file.read())
    # A corrupt pickle can raise any exception.
    except Exception as error:
        raise InputError(
            f"{path}: expected a whole pickle of arrays, got one that is cut "
            f"short or broken ({type(error).__name__}: {error}). Fetch the "
            "file again."
        ) from error
    if rest:
        raise InputError(
            f"{path}: expected one pickle, got {rest} bytes after it. Fetch "
            "the file again."
        )
    return content


def _encode(text: str, encoding: str) -> bytes:
    # Protocol 2 has no bytes: Python 3 writes a call of codecs.encode instead.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


# NumPy's functions, under all module names that its versions use.
_ADMITTED = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "multiarray._reconstruct": np.zeros(0).__reduce_ex__(2)[0],
    "numeric._frombuffer": np.zeros(0).__reduce_ex__(5)[0],
    "_codecs.encode": _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for core in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(core)
        if f"{module}.{name}" not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not needed for arrays"
            )
        return _ADMITTED[f"{module}.{name}"]
