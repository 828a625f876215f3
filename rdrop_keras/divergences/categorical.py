"""Bidirectional KL divergence between categorical distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.base import check_outputs
from rdrop_keras.divergences.base import mean_pairwise_product
from rdrop_keras.divergences.base import smallest_normal


def categorical_consistency(
    outputs: Sequence[Any],
    from_logits: bool = False,
    axis: int = -1,
    stop_gradient: bool = False,
) -> Any:
    """Returns the mean KL divergence of all ordered pairs of outputs.

    The value is `1 / (m (m - 1)) * sum_{i != j} KL(o_i || o_j)`, summed over
    the classes and not reduced over any other axis. For two outputs this is
    the paper's Eq. 2, `(KL(o_1 || o_2) + KL(o_2 || o_1)) / 2`. It is computed
    from log-probabilities, as `sum (p_1 - p_2)(log p_1 - log p_2) / 2`, so
    that it neither saturates nor loses small values. Gradients flow into
    every output.

    Args:
        outputs: Two or more tensors of one shape, for instance
            `(batch, classes)` or `(batch, time, vocabulary)`.
        from_logits: Whether the outputs are logits rather than probabilities.
            Logits of `-inf` in every output (masked classes) contribute
            nothing; `-inf` in only some of the outputs gives an infinite
            divergence. Probabilities are clipped from below at the smallest
            normal number, so that a zero costs at most 87 nats.
        axis: The axis that holds the classes.
        stop_gradient: Whether the first argument of every KL term is a
            constant target, so that gradients flow into the second only.

    Returns:
        A tensor with the shape of one output without the class axis, in nats.

    Raises:
        ValueError: If there are fewer than two outputs.

    Example:

    >>> p = [[0.5, 0.5]]
    >>> q = [[0.9, 0.1]]
    >>> value = rdrop_keras.losses.categorical_consistency([p, q])
    >>> round(float(value[0]), 4)
    0.4394

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.3.
    """
    outputs = check_outputs(outputs)
    if from_logits:
        log_probabilities = [
            keras.ops.log_softmax(o, axis=axis) for o in outputs
        ]
        probabilities = [keras.ops.exp(log_p) for log_p in log_probabilities]
    else:
        probabilities = outputs
        log_probabilities = [
            keras.ops.log(keras.ops.maximum(p, smallest_normal(p)))
            for p in outputs
        ]
    terms = mean_pairwise_product(
        probabilities, log_probabilities, 0.5, stop_gradient
    )
    return keras.ops.sum(terms, axis=axis)


@keras.saving.register_keras_serializable(package="rdrop_keras")
class CategoricalConsistency(DistributionDivergence):
    """Bidirectional KL divergence between two categorical outputs.

    Computes `(KL(o_1 || o_2) + KL(o_2 || o_1)) / 2` per item, in nats. It is
    the divergence for categorical and sparse categorical crossentropy.

    Args:
        from_logits: Whether the outputs are logits rather than probabilities.
        axis: The axis that holds the classes.
        reduction: See `keras.losses.Loss`.
        name: Optional name.
        dtype: The dtype of the computation, float32 by default.

    Call arguments:
        y_true: Output of one pass, `(batch, ..., classes)`.
        y_pred: Output of another pass, of the same shape. Its Keras mask, if
            any, marks the items that count.
        sample_weight: Optional weights, as for any Keras loss.

    Example:

    >>> loss = rdrop_keras.losses.CategoricalConsistency(from_logits=True)
    >>> value = loss([[0.0, 0.0]], [[2.0, 0.0]])
    >>> round(float(value), 4)
    0.3808

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1,
        Eq. 2.
    """

    adds_up = True

    def __init__(
        self,
        from_logits: bool = False,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "categorical_consistency",
        dtype: Any = None,
    ):
        super().__init__(
            from_logits=from_logits,
            axis=axis,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def unreduced(
        self, outputs: Sequence[Any], stop_gradient: bool = False
    ) -> Any:
        return categorical_consistency(
            outputs, self.from_logits, self.axis, stop_gradient
        )
