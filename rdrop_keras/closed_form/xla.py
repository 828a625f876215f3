"""Whether XLA compiles what is being computed, as far as is known."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator

_compiles = contextvars.ContextVar("rdrop_keras_xla", default=False)


@contextlib.contextmanager
def compiling(jit_compile: bool) -> Iterator[None]:
    """Says so of all that is traced inside.

    TensorFlow does not tell a function that is traced what will compile it.

    Args:
        jit_compile: Whether XLA does.
    """
    token = _compiles.set(jit_compile)
    try:
        yield
    finally:
        _compiles.reset(token)


def is_compiling() -> bool:
    """Whether it was said. What follows may be of speed, not of results."""
    return _compiles.get()
