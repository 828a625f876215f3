"""Everything of Keras that we use and that Keras does not make public.

One function each, with the reason. `tests/test_keras_internals.py` fails when
a Keras release takes one of them away.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

# `keras.Model(inputs, outputs)` returns one, but no public name gives the
# class, and `RDropModel(inputs, outputs)` has to be one from the start:
# otherwise Keras rewrites `RDropModel.__bases__` for good, and no subclass of
# it can be defined after that (keras-team/keras#17270).
# isort: split
from keras.src.models.functional import Functional

__all__ = [
    "Functional",
    "all_layers",
    "carry_logits",
    "carry_mask",
    "compiled_loss",
    "computed_logits",
    "global_seed_generator",
    "mask_of",
    "with_losses",
]


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields every layer at any depth; `Model.layers` gives the top level."""
    yield from model._flatten_layers(include_self=False)


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


def compiled_loss(model: keras.Model) -> Any:
    """Returns the object that `compile(loss=...)` made, or None."""
    return getattr(model, "_compile_loss", None)


def global_seed_generator() -> Any:
    """Returns the generator of layers that have no seed of their own, or None.

    No model owns it, so that nothing else leads to its state.
    """
    return global_state.get_global_attribute(
        seed_generator.GLOBAL_SEED_GENERATOR
    )


def with_losses(
    compiled: Any, replace: Callable[[keras.losses.Loss, str], Any]
) -> Callable[[Any, Any, Any], Any]:
    """Returns a copy of a built compiled loss with every loss replaced.

    The copy pairs outputs with targets, sample weights and loss weights
    exactly as the task loss does, for any nesting, since it is the same code.
    It feeds no metrics.

    Args:
        compiled: What `compiled_loss` returned, after its first call.
        replace: Given a loss and its output's name, returns a callable
            `(y_true, y_pred, sample_weight)`.
    """
    # `copy.copy` would go through the saving hooks of `keras.losses.Loss`.
    clone = object.__new__(type(compiled))
    clone.__dict__.update(compiled.__dict__)
    clone._flat_losses = [
        entry._replace(loss=replace(entry.loss, entry.name))
        for entry in compiled._flat_losses
    ]
    # One falsy entry for each loss: Keras zips losses with metrics.
    clone._metrics = [None] * len(clone._flat_losses)
    return clone
