"""Values that are set for one model, in one thread, within a context."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any


class ForModel:
    """A value for each model that other threads do not see.

    An attribute of the model would be visible to a thread that predicts while
    another one trains.

    Args:
        name: The name of the context variable, for debugging.
    """

    def __init__(self, name: str):
        self._values = contextvars.ContextVar(name, default=())

    def get(self, model: Any) -> Any:
        """Returns the value for a model, or None."""
        for other, value in self._values.get():
            if other is model:
                return value
        return None

    @contextlib.contextmanager
    def set(self, model: Any, value: Any) -> Iterator[None]:
        """Sets the value for a model while the context lasts."""
        token = self._values.set(((model, value), *self._values.get()))
        try:
            yield
        finally:
            self._values.reset(token)
