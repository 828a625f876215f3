"""The task loss of one pass."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.reduction import reduce_values

ops = keras.ops


def additional_losses(model: Any) -> Any:
    """Returns the sum of the losses that layers added in the last call.

    These are weight regularizers and `add_loss` terms, divided by the number
    of replicas as in Keras.
    """
    total = ops.zeros((), consistency_dtype())
    for loss in model.losses:
        total = total + ops.cast(ops.sum(loss), total.dtype)
    return reduce_values(ops.expand_dims(total, 0), "sum_over_batch_size")


def loss_of_pass(
    model: Any,
    x: Any,
    y: Any,
    y_pred: Any,
    sample_weight: Any,
    training: bool = True,
) -> Any:
    """Returns the result of a model's `compute_loss` for one pass."""
    # Overrides written for Keras before 3.3 do not take `training`.
    parameters = inspect.signature(model.compute_loss).parameters
    given = {"training": training} if "training" in parameters else {}
    weights = _keras.weights_to_spend(sample_weight)
    return model.compute_loss(x, y, y_pred, weights, **given)
