"""Bidirectional KL divergence between independent Bernoulli distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.base import check_outputs
from rdrop_keras.divergences.base import mean_pairwise_product
from rdrop_keras.divergences.base import smallest_normal


def bernoulli_consistency(
    outputs: Sequence[Any],
    from_logits: bool = False,
    axis: int = -1,
    stop_gradient: bool = False,
) -> Any:
    """Returns the mean KL divergence of all ordered pairs of Bernoulli outputs.

    Every value is the probability of one independent binary label. The
    divergence of a label is `(p_1 - p_2)(logit p_1 - logit p_2) / 2`. Labels
    are averaged over `axis`, as in `keras.losses.BinaryCrossentropy`.

    Args:
        outputs: Two or more tensors of one shape `(batch, ..., labels)`.
        from_logits: Whether the outputs are logits rather than probabilities.
        axis: The axis that holds the labels.
        stop_gradient: Whether the first argument of every KL term is a
            constant target, so that gradients flow into the second only.

    Returns:
        A tensor with the shape of one output without `axis`, in nats.

    Raises:
        ValueError: If there are fewer than two outputs.

    Example:

    >>> value = rdrop_keras.losses.bernoulli_consistency([[[0.5]], [[0.9]]])
    >>> round(float(value[0]), 4)
    0.4394

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1,
        applied to each label.
    """
    outputs = check_outputs(outputs)
    if from_logits:
        logits = outputs
        probabilities = [keras.ops.sigmoid(z) for z in outputs]
    else:
        probabilities = outputs
        logits = [
            keras.ops.log(keras.ops.maximum(p, smallest_normal(p)))
            - keras.ops.log(keras.ops.maximum(1.0 - p, smallest_normal(p)))
            for p in outputs
        ]
    terms = mean_pairwise_product(probabilities, logits, 0.5, stop_gradient)
    return keras.ops.mean(terms, axis=axis)


@keras.saving.register_keras_serializable(package="rdrop_keras")
class BernoulliConsistency(DistributionDivergence):
    """Bidirectional KL divergence between two multi-label outputs.

    Computes the mean over the labels of `(KL(o_1 || o_2) + KL(o_2 || o_1)) /
    2`, in nats. It is the divergence for binary crossentropy.

    Args:
        from_logits: Whether the outputs are logits rather than probabilities.
        axis: The axis that holds the labels.
        reduction: See `keras.losses.Loss`.
        name: Optional name.
        dtype: The dtype of the computation, float32 by default.

    Call arguments:
        y_true: Output of one pass, `(batch, ..., labels)`.
        y_pred: Output of another pass, of the same shape. Its Keras mask, if
            any, marks the items that count.
        sample_weight: Optional weights, as for any Keras loss.

    Example:

    >>> loss = rdrop_keras.losses.BernoulliConsistency(from_logits=True)
    >>> value = loss([[0.0, 1.0]], [[2.0, 1.0]])
    >>> round(float(value), 4)
    0.1904

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1,
        applied to each label.
    """

    def __init__(
        self,
        from_logits: bool = False,
        axis: int = -1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "bernoulli_consistency",
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
        return bernoulli_consistency(
            outputs, self.from_logits, self.axis, stop_gradient
        )
