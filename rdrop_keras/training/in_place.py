"""What the backends share that assign variables in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def test_step(
    model: Any, update: Callable[[Any], dict[str, Any]], data: Any
) -> dict[str, Any]:
    """Runs a function of a batch as a step of `evaluate`.

    Args:
        model: The model that `evaluate` runs on.
        update: A function that updates the metrics on a batch, and returns
            the logs.
        data: A batch, in the form that `evaluate` passes to `test_step`.
    """
    return update(data)
