"""The reduction of per-item values, as in `keras.losses.Loss`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


class _Reduction(keras.losses.Loss):
    """A Keras loss that masks, weights and reduces the values it is given."""

    def call(self, y_true, y_pred):
        return y_pred


def reduce_values(
    values: Any,
    reduction: str | None = "sum_over_batch_size",
    sample_weight: Any = None,
    mask: Any = None,
) -> Any:
    """Reduces values with the machinery of `keras.losses.Loss`.

    Args:
        values: One value for each item, of any shape.
        reduction: See `keras.losses.Loss`.
        sample_weight: Optional weights of the items.
        mask: Optional mask of the items that count.
    """
    values = _keras.carry_mask(values, mask)
    reduce = _Reduction(
        reduction=reduction, name="consistency", dtype=consistency_dtype()
    )
    weights = _keras.weights_to_spend(sample_weight, mask)
    return reduce(values, values, weights)


def common_mask(outputs: Sequence[Any], valid: Any = None) -> Any:
    """Returns the mask of the items that are valid in every output, or None.

    Args:
        outputs: Tensors, which may carry Keras masks.
        valid: Optional additional mask.
    """
    for output in outputs:
        mask = _keras.mask_of(output)
        if mask is not None:
            mask = ops.cast(mask, "bool")
            valid = mask if valid is None else ops.logical_and(valid, mask)
    return valid
