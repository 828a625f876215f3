"""What Keras attaches to tensors and variables."""

from __future__ import annotations

from typing import Any

import keras
from keras.src import backend


def mask_of(tensor: Any) -> Any:
    """Returns the mask that Keras attached to a tensor, or None.

    Layers hand masks to losses by this attribute; the public `compute_mask`
    would need every intermediate tensor again.
    """
    return getattr(tensor, "_keras_mask", None)


def carry_mask(tensor: Any, mask: Any) -> Any:
    """Attaches a mask where `keras.losses.Loss` looks for it."""
    if mask is not None:
        tensor._keras_mask = mask
    return tensor


def computed_logits(tensor: Any) -> Any:
    """Returns the logits a softmax or sigmoid output was made from, or None.

    `keras.activations.softmax` and `sigmoid` leave them on their result, and
    Keras's own crossentropies prefer them to the rounded probabilities.
    """
    return getattr(tensor, "_keras_logits", None)


def carry_logits(tensor: Any, logits: Any) -> Any:
    """Attaches logits where Keras's crossentropies look for them."""
    tensor._keras_logits = logits
    return tensor


def operation_of(tensor: Any) -> Any:
    """Returns the operation that made a symbolic tensor."""
    return tensor._keras_history.operation


def is_seed_state(variable: keras.Variable) -> bool:
    """Whether a variable is the state of a `keras.random.SeedGenerator`.

    Any object may hold such a generator, so that the state cannot be found by
    going through layers. Keras gives it this name and no other mark.
    """
    return variable.name == "seed_generator_state"


def autocast_scope(layer: keras.layers.Layer) -> Any:
    """Returns the scope that a layer's `call` would read its variables in.

    `Layer.__call__` enters it, and no public name tells it. A layer that does
    not cast its inputs, as embeddings do not, does not cast its variables
    either in a model that casts, but does in one that does not.
    """
    casts = layer.compute_dtype != layer.variable_dtype
    if backend.get_autocast_scope() is not None:
        casts = layer.autocast
    return backend.AutocastScope(layer.compute_dtype if casts else None)
