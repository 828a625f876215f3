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
    """The files of a data set.

    Attributes:
        name: The name to show.
        train: The files of the training part.
        test: The file of the test part.
        label: The key of the labels in a pickle.
        names: The pickle of the class names, and their key.
        binary_names: The text file of the class names.
        label_bytes: The number of label bytes before a binary image. The
            last one is the label.
        num_classes: The number of classes.
        folders: The directories that the published archives unpack to.
    """

    name: str
    train: tuple[str, ...]
    test: str
    label: str
    names: tuple[str, str]
    binary_names: str
    label_bytes: int
    num_classes: int
    folders: tuple[str, str]


LAYOUTS = {
    "cifar10": Layout(
        name="CIFAR-10",
        train=tuple(f"data_batch_{number}" for number in range(1, 6)),
        test="test_batch",
        label="labels",
        names=("batches.meta", "label_names"),
        binary_names="batches.meta.txt",
        label_bytes=1,
        num_classes=10,
        folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    ),
    "cifar100": Layout(
        name="CIFAR-100",
        train=("train",),
        test="test",
        label="fine_labels",
        names=("meta", "fine_label_names"),
        binary_names="fine_label_names.txt",
        label_bytes=2,
        num_classes=100,
        folders=("cifar-100-python", "cifar-100-binary"),
    ),
}


def find_cifar(directory: Path) -> tuple[str, Path] | None:
    """Returns which data set a directory has, and where, or None."""
    for kind, layout in LAYOUTS.items():
        for folder in (directory, *(directory / x for x in layout.folders)):
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
    """Reads the files as they are published, unpacked.

    Returns:
        The name, the class names, the training and the test part.

    Raises:
        InputError: If a file is missing, cut short or broken. Pickles may
            hold arrays, lists, dicts, text and numbers; nothing in them runs.
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
    train = [folder / f"{name}{suffix}" for name in layout.train]
    test = folder / f"{layout.test}{suffix}"
    names = folder / (layout.binary_names if binary else layout.names[0])
    needed = [*train, test, names]
    missing = [path.name for path in needed if not path.is_file()]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(needed)} files of "
            f"{layout.name} are missing: {', '.join(missing)}. {AGAIN}"
        )
    read = _read_binary if binary else _read_pickle
    parts = [read(layout, path) for path in train]
    return (
        layout.name,
        _class_names(layout, names, binary),
        Part(
            np.concatenate([part.images for part in parts]),
            np.concatenate([part.labels for part in parts]),
        ),
        read(layout, test),
    )


def _read_pickle(layout: Layout, path: Path) -> Part:
    content = _dict_of(path)
    images, labels = content.get("data"), content.get(layout.label)
    if (
        not isinstance(images, np.ndarray)
        or images.dtype != np.uint8
        or images.shape[1:] != (PIXELS,)
        or len(images) == 0
    ):
        raise InputError(
            f"{path}: expected `data` of {PIXELS} bytes an image, got "
            f"{_describe(images)}. {AGAIN}"
        )
    if not isinstance(labels, list) or len(labels) != len(images):
        raise InputError(
            f"{path}: expected {len(images)} {layout.label}, one for each "
            f"image, got {_describe(labels)}. {AGAIN}"
        )
    return _part(layout, path, images, labels)


def _read_binary(layout: Layout, path: Path) -> Part:
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
    # A row has all of red, then all of green, then all of blue.
    images = rows.reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    return Part(np.ascontiguousarray(images), np.array(labels, "int32"))


def _class_names(layout: Layout, path: Path, binary: bool) -> tuple[str, ...]:
    if binary:
        lines = path.read_text("utf-8", "replace").splitlines()
        names = [line for line in lines if line]
    else:
        names = _dict_of(path).get(layout.names[1])
        if not isinstance(names, list):
            raise InputError(
                f"{path}: expected a list {layout.names[1]}, got "
                f"{_describe(names)}. {AGAIN}"
            )
        names = [_text(name) for name in names]
    if len(names) != layout.num_classes or len(set(names)) != len(names):
        raise InputError(
            f"{path}: expected {layout.num_classes} different class names, "
            f"got {len(names)}, {len(set(names))} of them different. {AGAIN}"
        )
    return tuple(names)


def _dict_of(path: Path) -> dict[str, Any]:
    content = load_arrays(path)
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected a dict, got {_describe(content)}. {AGAIN}"
        )
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    # Python 2 wrote bytes.
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} with shape {value.shape}"
    if isinstance(value, (list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    return "nothing" if value is None else f"a {type(value).__name__}"


def load_arrays(path: Path) -> Any:
    """Reads a pickle of arrays, lists, dicts, text and numbers.

    A pickle names functions to call. Only those that NumPy's arrays need are
    admitted. All others are refused before they are imported.

    Raises:
        InputError: If it is no such pickle, or is cut short.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
            rest = len(file.read())
    # A broken pickle can raise anything.
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
    # Python 3 writes this call where protocol 2 has no bytes.
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


# NumPy's own functions, whichever module its version keeps them in.
_reconstruct = np.zeros(0).__reduce_ex__(2)[0]
_frombuffer = np.zeros(0).__reduce_ex__(5)[0]
_ADMITTED = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "_codecs.encode": _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not needed for arrays"
            )
        return _ADMITTED[f"{module}.{name}"]
