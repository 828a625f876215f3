"""Reduces values by an item to one loss, as `keras.losses.Loss` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


class _Reduction(keras.losses.Loss):
    """A loss that is its own prediction: masks, weights, reduces."""

    def call(self, y_true, y_pred):
        return y_pred


def reduce_values(
    values: Any,
    reduction: str | None = "sum_over_batch_size",
    sample_weight: Any = None,
    mask: Any = None,
) -> Any:
    """Reduces values by the machinery of `keras.losses.Loss`.

    Args:
        values: One value for each item, of any shape.
        reduction: See `keras.losses.Loss`.
        sample_weight: Optional weights of the items.
        mask: Optional, true where an item counts.
    """
    values = _keras.carry_mask(values, mask)
    reduce = _Reduction(
        reduction=reduction, name="consistency", dtype=consistency_dtype()
    )
    return reduce(values, values, sample_weight)


def common_mask(outputs: Sequence[Any], valid: Any = None) -> Any:
    """Returns where every output has a valid item, or None for everywhere.

    Args:
        outputs: Tensors with the masks that Keras attached to them.
        valid: Optional, one more mask.
    """
    for output in outputs:
        mask = _keras.mask_of(output)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            valid = mask if valid is None else ops.logical_and(valid, mask)
    return valid
