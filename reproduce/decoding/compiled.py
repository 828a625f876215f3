"""Functions of arrays, compiled by Keras on any backend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras


class CompiledFunction(keras.Model):
    """A function as the `call` of a model.

    `predict_on_batch` compiles and caches it on each backend, and passes the
    variables of `model` to it.
    """

    def __init__(self, model: keras.Model, function: Callable[..., Any]):
        super().__init__()
        self.model = model
        self.function = function
        self.built = True
        # Elsewhere, XLA would compile for minutes and gain little.
        self.jit_compile = keras.backend.backend() == "jax"

    def call(self, arrays: list[Any]) -> Any:
        return self.function(*arrays)


def compiled(
    model: keras.Model, function: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns a compiled function of NumPy arrays, written with `keras.ops`."""

    # Only now, because in the scope of a strategy each replica would compute
    # the whole batch.
    @functools.cache
    def found() -> CompiledFunction:
        return CompiledFunction(model, function)

    return lambda *arrays: found().predict_on_batch(list(arrays))
