"""Pickles of arrays, read without running what is in them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.common.errors import InputError

# NumPy's own functions, wherever a version of it keeps them.
_reconstruct = np.zeros(0).__reduce_ex__(2)[0]
_frombuffer = np.zeros(0).__reduce_ex__(5)[0]


def _encode(text: str, encoding: str) -> bytes:
    """What Python 3 writes in place of bytes for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"the encoding {encoding}")
    return text.encode("latin1")


ADMITTED = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}


def load_arrays(path: Path) -> Any:
    """Reads a pickle of arrays, lists, dicts, text and numbers.

    A pickle is a program: one that names a function or class can run it. Only
    what NumPy's arrays need is admitted, and all else refused before it is
    even imported.

    Args:
        path: A file that Python 2 or 3 wrote.

    Raises:
        InputError: If it is no such pickle, or is cut short.
    """
    try:
        with path.open("rb") as file:
            content = _ArrayUnpickler(file, encoding="bytes").load()
            rest = len(file.read())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}.") from error
    # Broken pickles raise whatever comes of what they say.
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


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return ADMITTED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is not needed for arrays"
            ) from None
