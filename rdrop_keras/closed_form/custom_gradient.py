"""Functions with a gradient of their own, alike on all backends."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

# Returns the gradient of each argument, given that of each result.
Gradient = Callable[..., Sequence[Any]]
Function = Callable[..., tuple[tuple[Any, ...], Gradient]]


def custom_gradient(function: Function) -> Callable[..., tuple[Any, ...]]:
    """Returns a function of tensors with several results and a given gradient.

    `keras.ops.custom_gradient` passes the gradients of several results as
    arguments on TensorFlow and as one tuple on JAX, and takes only one result
    on PyTorch (Keras 3.15).

    Args:
        function: Takes tensors. Returns a tuple of tensors, and a function
            that takes the gradient of each of them, as positional arguments,
            and returns the gradient of each argument.
    """
    backend = keras.backend.backend()
    if backend == "jax":

        def with_one_argument(*tensors):
            results, gradient = function(*tensors)
            return results, lambda upstream: tuple(gradient(*upstream))

        return keras.ops.custom_gradient(with_one_argument)
    if backend == "torch":
        module = importlib.import_module("rdrop_keras.closed_form.torch")
        return module.custom_gradient(function)
    return keras.ops.custom_gradient(function)
