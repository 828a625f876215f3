"""The dropout layers of a model and their rates."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator
from typing import Any

import keras

from rdrop_keras import _keras

# The attributes in which Keras's and KerasHub's layers keep their rates.
# `MultiHeadAttention` and the recurrent cells have `dropout`, some of them
# `_dropout`; `drop_prob` is the rate of stochastic depth.
_RATES = (
    "rate",
    "dropout",
    "_dropout",
    "recurrent_dropout",
    "dropout_rate",
    "drop_prob",
)
# In these packages the attributes hold dropout rates only, and some layers draw
# without a seed generator of their own.
_OWN = ("keras", "keras_hub")


def dropout_rates(layer: keras.layers.Layer) -> dict[str, float]:
    """Returns the dropout rates of a layer by attribute name.

    A dropout rate is an attribute named `rate`, `dropout`, `_dropout`,
    `recurrent_dropout`, `dropout_rate` or `drop_prob` that holds a number of
    at least 0 and below 1. In a class that is neither Keras's nor KerasHub's,
    a rate above 0 counts only if the layer itself holds a
    `keras.random.SeedGenerator`, as subclasses of `keras.layers.Dropout` do.

    A dilation `rate` of 2 is therefore not a dropout rate, and neither is the
    `stddev` of noise, nor a `rate` that a layer of your own keeps for its
    config while an inner `Dropout` uses it. Two kinds of rates are not
    recognized: those of a class that draws from Keras's global generator, and
    those that are variables.

    Args:
        layer: Any layer. Its sublayers are not included.
    """
    draws = type(layer).__module__.split(".")[0] in _OWN or bool(
        _keras.seed_generators(layer)
    )
    values = {name: getattr(layer, name, None) for name in _RATES}
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, numbers.Real)
        and not isinstance(value, bool)
        and (value == 0 or (draws and 0 < value < 1))
    }


def stochastic_layers(
    model: keras.layers.Layer, include_self: bool = False
) -> list[tuple[keras.layers.Layer, dict[str, float]]]:
    """Returns the layers that may draw random numbers, and their rates.

    Args:
        model: Any Keras model, or a layer.
        include_self: Whether to include the model or layer itself.

    Returns:
        Pairs of a layer and its rates by attribute name: its `dropout_rates`,
        and the `stddev` of noise. The dict is empty for a layer that owns a
        `keras.random.SeedGenerator` but has no known rate.
    """
    found = []
    layers = [model] if include_self else []
    for layer in [*layers, *_keras.all_layers(model)]:
        rates = dropout_rates(layer)
        seeds = bool(_keras.seed_generators(layer))
        if isinstance(layer, keras.layers.GaussianNoise):
            rates["stddev"] = float(layer.stddev)
        if rates or seeds:
            found.append((layer, rates))
    return found


@contextlib.contextmanager
def dropout_at(model: keras.Model, rate: float | None) -> Iterator[None]:
    """Sets the rate of every active dropout, and restores the old rates.

    The active rates are the `dropout_rates` above 0, at any depth. Layers with
    a rate of 0 have no random state or are off on purpose.

    Args:
        model: Any Keras model.
        rate: The rate to set, or None to change nothing.
    """
    changed = []
    layers = [] if rate is None else [model, *_keras.all_layers(model)]
    try:
        for layer in layers:
            for name, old in dropout_rates(layer).items():
                # A property returns the rate of another layer, such as a cell.
                shown = isinstance(getattr(type(layer), name, None), property)
                if old > 0 and not shown:
                    changed.append((layer, name, getattr(layer, name)))
                    setattr(layer, name, rate)
        yield
    finally:
        for layer, name, old in changed:
            setattr(layer, name, old)


def explain_identical_passes(model: keras.Model) -> str:
    """Returns the error message for a model whose passes are identical."""
    layers = stochastic_layers(model)
    active = [entry for entry in layers if any(entry[1].values())]
    start = (
        "Expected the training-mode passes to differ, as dropout makes them. "
        "Received identical outputs on the first training step, so that "
        "R-Drop would double the cost and do nothing. "
    )
    if active:
        cause = (
            f"These layers have an active rate: {_names(active)}. Their "
            "randomness does not reach the output: check that `call` hands "
            "`training` on and does not say `training=False`, that no layer "
            "draws with a fixed integer seed or, with `passes='concat'`, one "
            "mask for the whole batch (`noise_shape`), and that what follows "
            "is not dead (all zeros). "
        )
    elif layers:
        cause = (
            f"All rates are 0 in the layers looked at: {_names(layers)}. Build "
            "the model with a dropout rate above 0 (the paper uses 0.1 to "
            "0.3); KerasHub's Gemma and ViT backbones have 0 by default. "
        )
    else:
        cause = (
            "The model has no layer that draws random numbers. Add "
            "`keras.layers.Dropout`, for instance before the last layer. "
        )
    return (
        start + cause + "To train without R-Drop, compile with `rdrop=None`; "
        "to go on regardless, with `rdrop=RDrop(..., check_dropout=False)`. "
        "The weights are as they were before the step."
    )


def _names(entries: list[tuple[Any, dict[str, float]]], most: int = 8) -> str:
    shown = [
        f"{layer.path or layer.name} ({type(layer).__name__}"
        + "".join(f", {name}={rate:g}" for name, rate in rates.items())
        + ")"
        for layer, rates in entries[:most]
    ]
    if len(entries) > most:
        shown.append(f"and {len(entries) - most} more")
    return ", ".join(shown)
