"""Datasets of tensorflow-datasets that are already on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError

# The names of each part's split in tensorflow-datasets.
PARTS = {
    "train": ("train",),
    "valid": ("validation", "valid"),
    "test": ("test",),
}


def open_prepared(
    name: str, directory: Path, features: Sequence[str]
) -> tuple[Any, dict[str, str]]:
    """Opens a dataset that was prepared in a `data_dir`. Nothing is downloaded.

    Returns:
        The builder, and the name of the split for each part in `PARTS`.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise InputError(
            "--tfds needs tensorflow-datasets, which is not installed: pip "
            "install tensorflow-datasets"
        ) from error
    try:
        builder = tensorflow_datasets.builder(name, data_dir=str(directory))
        available = list(builder.info.splits)
    except Exception as error:
        raise InputError(
            f"--tfds {name}: expected a data set of tensorflow-datasets, got "
            f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        ) from error
    if not available:
        raise InputError(
            f"--tfds {name}: expected it prepared in {directory}, got no "
            "splits there. Prepare it: python -m tensorflow_datasets build "
            f"{name} --data_dir {directory}"
        )
    found = builder.info.features or {}
    if any(feature not in found for feature in features):
        raise InputError(
            f"--tfds {name}: expected the features {' and '.join(features)}, "
            f"got {', '.join(sorted(found)) or 'none'}."
        )
    splits = {
        part: split
        for part, names in PARTS.items()
        for split in names
        if split in available
    }
    return builder, splits
