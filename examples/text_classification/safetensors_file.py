"""Reading tensors out of a `.safetensors` file.

Such a file is the length of its header in eight bytes, the header in JSON,
and the numbers, to which the header has the offsets.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from examples.common.errors import InputError

LENGTH_BYTES = 8
# What pretrained weights are stored in; the others are not weights.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Reads all tensors of floating point numbers, by name, as float32.

    Raises:
        InputError: If the file cannot be read, or is cut short or damaged.
    """
    try:
        content = np.memmap(path, dtype="uint8", mode="r")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}. Expected the weights there."
        ) from error
    except ValueError:
        # There is no map of nothing.
        content = np.zeros(0, "uint8")
    try:
        length = int.from_bytes(content[:LENGTH_BYTES].tobytes(), "little")
        start = LENGTH_BYTES + length
        header = json.loads(content[LENGTH_BYTES:start].tobytes())
        header.pop("__metadata__", None)
        ends = [entry["data_offsets"][1] for entry in header.values()]
        if start + max(ends, default=0) != len(content):
            raise ValueError("not as long as its header says")
        return {
            name: _tensor(content[start:], entry)
            for name, entry in header.items()
            if entry["dtype"] in DTYPES
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: expected a whole .safetensors file, got "
            f"{len(content)} bytes that are none ({error}). Fetch it again."
        ) from error


def _tensor(numbers: np.ndarray, entry: dict[str, Any]) -> np.ndarray:
    start, end = entry["data_offsets"]
    values = np.frombuffer(numbers[start:end], DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":
        # The upper half of a float32.
        values = (values.astype("<u4") << 16).view("<f4")
    return values.astype("float32").reshape(entry["shape"])
