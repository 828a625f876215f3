"""Which operations are known to give the same outputs in every pass."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.dropout import stochastic_layers

# Their layers say by rates and seeds whether they draw random numbers. Those
# of others may draw them in any way.
_TRUSTED = ("keras", "keras_hub")
# Keras's own, but what they run is someone else's.
_FOREIGN = (
    "FlaxLayer",
    "JaxLayer",
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
)
# Called when a layer is built, its loss is computed or it has been updated.
_NOT_CALLED = ("_initializer", "_regularizer", "_constraint")


def is_deterministic(node: Any) -> bool:
    """Whether a call in a functional model is known to draw nothing.

    That holds for Keras's and KerasHub's layers and operations without an
    active rate or random generator, unless they run a function of the user's:
    an activation, the body of `keras.ops.map`, a cell.

    Whatever `training` it was called with in the graph: a functional model
    replaces that by its own (Keras 3.15), so that the dropout of a backbone
    called with `training=False` is on in `fit`.

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
        # The loss of an activity regularizer belongs to each pass, but would
        # be added in the first alone.
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
    """Whether a function that is not Keras's is among attributes."""
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
    # Layers are looked at one by one. Other objects may call anything.
    return (
        callable(values)
        and not isinstance(values, keras.layers.Layer)
        and not _is_trusted(type(values))
    )


def _is_trusted(source: Any) -> bool:
    module = getattr(source, "__module__", None) or ""
    return module.split(".")[0] in _TRUSTED
