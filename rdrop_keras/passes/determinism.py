"""The operations that are known to give the same outputs in every pass."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.dropout import stochastic_layers

# The layers of these packages draw random numbers only if they have a rate or
# a seed generator. Other layers may draw them in any way.
_TRUSTED = ("keras", "keras_hub")
# Keras layers that run code from outside of Keras.
_FOREIGN = (
    "FlaxLayer",
    "JaxLayer",
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
)
# The names of attributes whose functions a layer's `call` does not run. On
# PyTorch a layer keeps its weights in a module.
_NOT_CALLED = ("_initializer", "_regularizer", "_constraint", "_torch_params")


def is_deterministic(node: Any) -> bool:
    """Returns whether a call in a graph is known to be deterministic.

    That holds for Keras's and KerasHub's layers and operations without an
    active rate or seed generator, unless they run a user's function: an
    activation, the body of `keras.ops.map`, a cell.

    The `training` argument of the call in the graph does not matter: a
    functional model replaces it by its own (Keras 3.15), so that the dropout
    of a backbone called with `training=False` is on in `fit`.

    Args:
        node: One of `_keras.nodes`.
    """
    operation = node.operation
    arguments = (node.arguments.args, node.arguments.kwargs)
    if not _is_trusted(type(operation)) or _runs_foreign(arguments):
        return False
    if not isinstance(operation, keras.layers.Layer):
        return not _runs_foreign(vars(operation))
    layers = [operation, *_keras.all_layers(operation)]
    for layer in layers:
        # Every pass must add the loss of an activity regularizer, but a shared
        # layer would add it in the first pass only.
        if (
            layer.activity_regularizer is not None
            or not _is_trusted(type(layer))
            or type(layer).__name__ in _FOREIGN
            or _runs_foreign(vars(layer))
        ):
            return False
    return not any(
        any(rates.values()) or not rates
        for _, rates in stochastic_layers(operation, include_self=True)
    )


def _runs_foreign(values: Any) -> bool:
    """Returns whether a function from outside of Keras is among the values."""
    if isinstance(values, dict):
        return any(
            _runs_foreign(value)
            for name, value in values.items()
            if not str(name).endswith(_NOT_CALLED)
        )
    if isinstance(values, (list, tuple, set)):
        return any(_runs_foreign(value) for value in values)
    if isinstance(values, functools.partial):
        return _runs_foreign([values.func, values.args, values.keywords])
    if inspect.ismethod(values):
        return not _is_trusted(type(values.__self__))
    if inspect.isroutine(values) or inspect.isclass(values):
        return not _is_trusted(values)
    # Sublayers are checked one by one. Other objects may call anything.
    return (
        callable(values)
        and not isinstance(values, keras.layers.Layer)
        and not _is_trusted(type(values))
    )


def _is_trusted(source: Any) -> bool:
    module = getattr(source, "__module__", None) or ""
    return module.split(".")[0] in _TRUSTED
