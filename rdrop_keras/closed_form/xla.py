"""A flag that tells whether XLA compiles the code being traced."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_compiles = contextvars.ContextVar("rdrop_keras_xla", default=False)


@contextlib.contextmanager
def compiling(jit_compile: bool) -> Iterator[None]:
    """Sets the flag for the code that is traced in a context.

    While TensorFlow traces a function, it does not tell whether XLA will
    compile the function.

    Args:
        jit_compile: Whether XLA will compile the function.
    """
    token = _compiles.set(jit_compile)
    try:
        yield
    finally:
        _compiles.reset(token)


def is_compiling() -> bool:
    """Returns the flag. It may affect speed, but never results."""
    return _compiles.get()
