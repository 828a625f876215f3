"""The R-Drop objective as a function, for custom training loops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.base import looks_like_probabilities
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.divergences.reduction import reduce_values


def rdrop_loss(
    task_losses: Sequence[Any],
    outputs: Sequence[Any],
    alpha: Any = 1.0,
    divergence: str | Divergence = "categorical",
    sample_weight: Any = None,
    mask: Any = None,
    stop_gradient: bool = False,
) -> Any:
    """Combines the task losses and outputs of several passes into one loss.

    Computes `1/m (T_1 + ... + T_m + alpha * C)`, where `C` is the mean over
    the items of the divergence between the outputs, averaged over all ordered
    pairs. This is the loss that `RDropModel` minimizes, for trainers that are
    not Keras models and for custom training loops. It works on every Keras
    backend, with the backend's own tensors.

    Args:
        task_losses: The scalar task loss of each pass.
        outputs: The output of each pass, two or more tensors of one shape
            `(batch, ..., classes)`. Masks that Keras attached to them are
            used.
        alpha: Weight of the consistency, the paper's alpha.
        divergence: `"categorical"` or `"bernoulli"` for probabilities,
            `"squared_error"`, or a `Divergence`, for instance
            `CategoricalConsistency(from_logits=True)`, whose reduction is
            used.
        sample_weight: Optional weights of the items.
        mask: Optional mask of the items that count, `(batch, ...)`.
        stop_gradient: Whether the first argument of each KL term is a
            constant target.

    Returns:
        The loss, a scalar.

    Raises:
        ValueError: If there is not one output for each task loss, the
            divergence is unknown, or outputs that are read as probabilities
            are not probabilities. The last is not checked in traced functions.

    Example:

    >>> divergence = rdrop_keras.losses.CategoricalConsistency(from_logits=True)
    >>> outputs = [np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]])]
    >>> y = np.array([0])
    >>> task_losses = [
    ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, o)
    ...     for o in outputs]
    >>> loss = rdrop_keras.losses.rdrop_loss(
    ...     task_losses, outputs, alpha=5.0, divergence=divergence)
    >>> round(float(loss), 4)
    1.362

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.3.
    """
    if len(task_losses) != len(outputs):
        raise ValueError(
            "Expected one output for each task loss. Received: "
            f"{len(task_losses)} task losses and {len(outputs)} outputs."
        )
    if divergence == "auto":
        raise ValueError(
            "Expected `divergence` to say how the outputs are compared, since "
            "there is no compiled loss to infer it from. Received: 'auto'."
        )
    chosen = (
        divergence
        if isinstance(divergence, Divergence)
        else divergence_for(None, divergence)
    )
    values = chosen.unreduced(outputs, stop_gradient)
    if mask is not None:
        mask = keras.ops.cast(mask, "bool")
    mask = common_mask(outputs, mask)
    if not looks_like_probabilities(chosen, outputs, mask):
        raise ValueError(
            "Expected `outputs` to be probabilities. Received values outside "
            "of 0 to 1, or that do not add up to 1. For logits pass "
            "`divergence=rdrop_keras.losses."
            f"{type(chosen).__name__}(from_logits=True)`."
        )
    value = reduce_values(values, chosen.reduction, sample_weight, mask)
    return weighted_sum(task_losses, value, alpha)


def weighted_sum(
    task_losses: Sequence[Any], consistency: Any, alpha: Any
) -> Any:
    """Returns `1/m (T_1 + ... + T_m + alpha * C)`."""
    dtype = consistency_dtype()
    total = sum(keras.ops.cast(loss, dtype) for loss in task_losses)
    weighted = keras.ops.cast(alpha, dtype) * keras.ops.cast(consistency, dtype)
    return (total + weighted) / len(task_losses)
