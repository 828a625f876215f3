"""Attributes that Keras attaches to tensors and variables."""

from __future__ import annotations

import contextlib
from typing import Any

import keras
import numpy as np
from keras.src import backend
from keras.src.backend.common.masking import get_keras_mask
from keras.src.backend.common.masking import set_keras_mask


def mask_of(tensor: Any) -> Any:
    """Returns the mask that Keras attached to a tensor, or None.

    Layers pass masks to losses in this way. The public `compute_mask` would
    need every intermediate tensor.
    """
    return get_keras_mask(tensor)


def carry_mask(tensor: Any, mask: Any) -> Any:
    """Attaches a mask where `keras.losses.Loss` looks for it."""
    if mask is not None:
        set_keras_mask(tensor, mask)
    return tensor


def computed_logits(tensor: Any) -> Any:
    """Returns the logits a softmax or sigmoid output was made from, or None.

    `keras.activations.softmax` and `sigmoid` attach them to their result, and
    Keras's own crossentropies prefer them to the rounded probabilities.
    """
    return getattr(tensor, "_keras_logits", None)


def carry_logits(tensor: Any, logits: Any) -> Any:
    """Attaches logits where Keras's crossentropies look for them."""
    # The arrays of JAX take no attributes, and Keras attaches nothing to them.
    with contextlib.suppress(AttributeError):
        tensor._keras_logits = logits
    return tensor


def to_overwrite(structure: Any) -> Any:
    """Returns tensors that a layer, model or loss may overwrite.

    `x *= 2` gives a name to a new tensor on TensorFlow and JAX. On PyTorch it
    overwrites the tensor, and everywhere a NumPy array. Other passes take the
    same, so that each gets a copy. Masks and logits that Keras attached are
    attached to the copies.

    Args:
        structure: A structure of tensors, arrays and other values.
    """
    return keras.tree.map_structure(_copied, structure)


def _copied(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf.copy()
    if keras.backend.backend() != "torch" or not keras.ops.is_tensor(leaf):
        return leaf
    logits = computed_logits(leaf)
    copy = carry_mask(keras.ops.copy(leaf), mask_of(leaf))
    return copy if logits is None else carry_logits(copy, logits)


def operation_of(tensor: Any) -> Any:
    """Returns the operation that made a symbolic tensor."""
    return tensor._keras_history.operation


def is_seed_state(variable: keras.Variable) -> bool:
    """Returns whether a variable is the state of a `SeedGenerator`.

    Any object may hold a generator, so that not all states can be found by
    going through the layers. Keras marks them by this name only.
    """
    return variable.name == "seed_generator_state"


def autocast_scope(layer: keras.layers.Layer) -> Any:
    """Returns the autocast scope in which a layer's `call` reads its variables.

    `Layer.__call__` enters it, and no public API returns it. A layer with
    `autocast=False`, such as an embedding, does not cast its variables inside
    another autocast scope, but does outside of any.
    """
    casts = layer.compute_dtype != layer.variable_dtype
    if backend.get_autocast_scope() is not None:
        casts = layer.autocast
    return backend.AutocastScope(layer.compute_dtype if casts else None)
