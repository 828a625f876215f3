"""Squared error between the outputs of regression passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.base import check_outputs
from rdrop_keras.divergences.base import mean_pairwise_product


def squared_error_consistency(
    outputs: Sequence[Any], stop_gradient: bool = False
) -> Any:
    """Returns the mean squared error over all pairs of outputs.

    The value is `1 / (m (m - 1)) * sum_{i != j} (o_i - o_j)^2`, averaged over
    the last axis, as in `keras.losses.MeanSquaredError`.

    Args:
        outputs: Two or more tensors of one shape `(batch, ..., values)`.
        stop_gradient: Whether the first output of every pair is a constant
            target, which halves the gradient.

    Returns:
        A tensor with the shape of one output without the last axis, in the
        square of the outputs' unit.

    Raises:
        ValueError: If there are fewer than two outputs.

    Example:

    >>> outputs = [[[1.0, 2.0]], [[1.0, 4.0]]]
    >>> value = rdrop_keras.losses.squared_error_consistency(outputs)
    >>> float(value[0])
    2.0

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), appendix A.4,
        Eq. 7.
    """
    outputs = check_outputs(outputs)
    terms = mean_pairwise_product(outputs, outputs, 1.0, stop_gradient)
    return keras.ops.mean(terms, axis=-1)


@keras.saving.register_keras_serializable(package="rdrop_keras")
class SquaredErrorConsistency(Divergence):
    """Squared error between two regression outputs.

    Computes `mean((o_1 - o_2)^2)` over the last axis. It is the divergence for
    mean squared error, mean absolute error, Huber and log-cosh losses.

    Args:
        reduction: See `keras.losses.Loss`.
        name: Optional name.
        dtype: The dtype of the computation, float32 by default.

    Call arguments:
        y_true: Output of one pass, `(batch, ..., values)`.
        y_pred: Output of another pass, of the same shape. Its Keras mask, if
            any, marks the items that count.
        sample_weight: Optional weights, as for any Keras loss.

    Example:

    >>> loss = rdrop_keras.losses.SquaredErrorConsistency()
    >>> float(loss([[1.0, 2.0]], [[1.0, 4.0]]))
    2.0

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), appendix A.4,
        Eq. 7.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "squared_error_consistency",
        dtype: Any = None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)

    def unreduced(
        self, outputs: Sequence[Any], stop_gradient: bool = False
    ) -> Any:
        return squared_error_consistency(outputs, stop_gradient)
