"""The base class of all divergences: a Keras loss between outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

# By how much the sum of a softmax in half precision may differ from 1.
_ROUNDING = 0.02


def consistency_dtype() -> str:
    """Returns the dtype in which the consistency is computed.

    Half precision cannot hold the difference of two nearly equal
    log-probabilities, so this is float32 under every policy (float64 where
    `keras.config.floatx()` is float64).
    """
    return "float64" if keras.config.floatx() == "float64" else "float32"


class Divergence(keras.losses.Loss):
    """A divergence between the outputs of several passes, one value per item.

    Subclasses implement `unreduced`. As a `keras.losses.Loss` it compares two
    outputs, `loss(output_1, output_2, sample_weight)`, with Keras's own
    masking, weighting and reduction. Inside `RDropModel` it always uses the
    reduction of the task loss.

    Args:
        reduction: See `keras.losses.Loss`.
        name: Optional name.
        dtype: The dtype of the computation. Defaults to float32 under every
            dtype policy.
    """

    def __init__(
        self,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(
            name=name, reduction=reduction, dtype=dtype or consistency_dtype()
        )

    def unreduced(
        self, outputs: Sequence[Any], stop_gradient: bool = False
    ) -> Any:
        """Returns the mean divergence over all pairs, one value per item.

        Args:
            outputs: Two or more outputs of one shape.
            stop_gradient: Whether the first argument of each `D(o_i || o_j)`
                is a constant target.
        """
        raise NotImplementedError

    def call(self, y_true, y_pred):
        return self.unreduced([y_true, y_pred])


class DistributionDivergence(Divergence):
    """A divergence between outputs that are logits or probabilities.

    Args:
        from_logits: Whether the outputs are logits rather than probabilities.
        axis: The axis that holds the classes or labels.
        **kwargs: See `Divergence`.

    Attributes:
        adds_up: Whether probabilities sum to 1 along the axis.
    """

    adds_up = False

    def __init__(self, from_logits: bool = False, axis: int = -1, **kwargs):
        super().__init__(**kwargs)
        self.from_logits = from_logits
        self.axis = axis

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "from_logits": self.from_logits,
            "axis": self.axis,
        }


def looks_like_probabilities(
    divergence: Divergence, outputs: Sequence[Any], mask: Any = None
) -> bool:
    """Returns whether outputs have values that a divergence can read.

    A divergence that reads probabilities needs values from 0 to 1, which sum
    to 1 if they are categorical; logits almost never pass this test. Tensors
    without values, such as those of a graph that is being traced, pass.

    Args:
        divergence: The divergence that compares the outputs.
        outputs: The output of each pass.
        mask: The mask of the items that count, or None if all do.
    """
    if not isinstance(divergence, DistributionDivergence):
        return True
    if divergence.from_logits:
        return True
    for output in outputs:
        try:
            values = keras.ops.convert_to_numpy(
                keras.ops.cast(output, consistency_dtype())
            )
        except Exception:
            # Each backend raises its own error for a tensor without a value.
            return True
        totals = values.sum(axis=divergence.axis) if values.ndim else values
        outside = ((values < 0) | (values > 1 + _ROUNDING)).any(
            axis=divergence.axis if values.ndim else None
        )
        wrong = outside
        if divergence.adds_up:
            wrong = wrong | (np.abs(totals - 1) > _ROUNDING)
        if mask is not None:
            wrong = wrong & keras.ops.convert_to_numpy(mask)
        if wrong.any():
            return False
    return True


def check_outputs(outputs: Sequence[Any]) -> list[Any]:
    """Returns the outputs of two or more passes in the consistency dtype."""
    outputs = list(outputs)
    if len(outputs) < 2:
        raise ValueError(
            "Expected the outputs of two or more passes. Received: "
            f"{len(outputs)}."
        )
    dtype = consistency_dtype()
    tensors = [keras.ops.convert_to_tensor(o) for o in outputs]
    return [keras.ops.cast(t, dtype) for t in tensors]


def smallest_normal(tensor: Any) -> float:
    """Returns the smallest positive normal number of a tensor's dtype."""
    return float(np.finfo(keras.backend.standardize_dtype(tensor.dtype)).tiny)


def mean_pairwise_product(
    first: Sequence[Any],
    second: Sequence[Any],
    pair_weight: float,
    stop_gradient: bool = False,
) -> Any:
    """Returns the mean of `w (a_i - a_j)(b_i - b_j)` over the pairs i < j.

    The cost is linear in the number of passes m: the sum over pairs equals
    `m * sum_i (a_i - mean a)(b_i - mean b)`. Unlike the difference of two
    large sums, this form loses no precision where all passes agree.

    Where all `b` are equal, their differences are set to zero, because equal
    infinities would give NaN. So a class that is masked with a logit of -inf
    contributes nothing.

    With `stop_gradient` the `a` are constants. For the KL divergence this
    makes the first argument of every `D(o_i || o_j)` a constant target: the
    only other terms, `sum p_i d(log p_i)`, are the derivative of the sum of
    the probabilities and therefore zero.
    """
    count = len(first)
    if stop_gradient:
        first = [keras.ops.stop_gradient(a) for a in first]
    if count == 2:
        gap = keras.ops.where(
            second[0] == second[1], 0.0, second[0] - second[1]
        )
        return pair_weight * (first[0] - first[1]) * gap
    equal = second[0] == second[1]
    for other in second[2:]:
        equal = keras.ops.logical_and(equal, second[0] == other)
    first_mean = sum(first) / count
    second_mean = sum(second) / count
    total = sum(
        (a - first_mean) * keras.ops.where(equal, 0.0, b - second_mean)
        for a, b in zip(first, second)
    )
    return pair_weight * 2.0 / (count - 1) * total
