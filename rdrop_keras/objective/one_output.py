"""The comparison of one output between passes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.categorical import CategoricalConsistency
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.divergences.reduction import reduce_values

ops = keras.ops


class Comparison(NamedTuple):
    """The divergence of one output between passes.

    Attributes:
        name: The name of the output.
        divergence: The divergence that was used.
        outputs: The tensors that were compared: the outputs, or the logits
            that they were computed from.
        values: The divergence of every item.
        mask: The mask of the items that count, or None if all do.
        value: The divergence, reduced as the task loss is.
    """

    name: str
    divergence: Divergence
    outputs: Sequence[Any]
    values: Any
    mask: Any
    value: Any


def compare(
    outputs: Sequence[Any],
    divergence: Divergence,
    sample_weight: Any = None,
    valid: Any = None,
    name: str = "output",
    stop_gradient: bool = False,
    values: Any = None,
    like: Any = None,
    task_rank: int | None = None,
) -> Comparison:
    """Compares one output between passes.

    Args:
        outputs: The output of each pass, which may carry a Keras mask.
        divergence: The divergence, with the task loss's reduction.
        sample_weight: The sample weights of the task loss.
        valid: Optional mask of the items that count, besides Keras's masks.
        name: The output's name, for error messages.
        stop_gradient: As in `RDrop`.
        values: The divergence of every item, if it is already known.
        like: The targets, to whose rank Keras's losses fit the outputs by
            adding or dropping a last axis of size 1.
        task_rank: The rank of the task loss's values before their reduction,
            if there may be fewer values than items.
    """
    check_comparable(outputs, name)
    divergence, compared = _before_activation(divergence, outputs, name)
    _check_classes(divergence, compared[0], name)
    if like is not None and not isinstance(divergence, CategoricalConsistency):
        compared = [_keras.same_rank(like, each)[1] for each in compared]
    if values is None:
        values = divergence.unreduced(compared, stop_gradient)
    mask = common_mask(outputs, valid)
    value = _reduce(
        values, divergence.reduction, sample_weight, mask, task_rank
    )
    return Comparison(name, divergence, compared, values, mask, value)


def _reduce(values, reduction, sample_weight, mask, task_rank):
    rank = len(values.shape)
    if task_rank is None or task_rank >= rank:
        return reduce_values(values, reduction, sample_weight, mask)
    if task_rank == 0:
        # One loss for the whole batch: the sample weights belong to its rows.
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            for _ in range(len(sample_weight.shape), rank):
                sample_weight = ops.expand_dims(sample_weight, -1)
        return reduce_values(values, reduction, sample_weight, mask)
    # A loss with one value for each row of items, such as CTC, sums over the
    # row, and so does the divergence.
    if mask is not None:
        values = ops.where(mask, values, 0.0)
    values = ops.sum(values, axis=tuple(range(task_rank, rank)))
    return reduce_values(values, reduction, sample_weight)


def check_comparable(outputs: Sequence[Any], name: str) -> None:
    """Raises if outputs of several passes cannot be compared."""
    shapes = [tuple(output.shape) for output in outputs]
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1 or any(
        len({size for size in sizes if size is not None}) > 1
        for sizes in zip(*shapes)
    ):
        raise ValueError(
            f"Expected every pass to give output '{name}' the same shape. "
            f"Received: {shapes}. R-Drop compares the passes item by item; a "
            "model whose output size depends on dropout cannot be trained "
            "with it."
        )
    dtype = keras.backend.standardize_dtype(outputs[0].dtype)
    if "float" not in dtype:
        raise ValueError(
            f"Expected output '{name}' to be floating point: logits, "
            "probabilities or values that the passes can agree on. Received: "
            f"dtype={dtype}. Return those from the model, or compile without "
            "a loss for this output."
        )


def _before_activation(
    divergence: Divergence, outputs: Sequence[Any], name: str
) -> tuple[Divergence, Sequence[Any]]:
    """Replaces softmax or sigmoid outputs by the logits they came from."""
    if not isinstance(divergence, DistributionDivergence):
        return divergence, outputs
    logits = [_keras.computed_logits(output) for output in outputs]
    if any(z is None for z in logits):
        return divergence, outputs
    if divergence.from_logits:
        raise ValueError(
            f"Expected output '{name}' to be logits, since the loss says "
            "`from_logits=True`. Received the result of a softmax or sigmoid. "
            "Remove that activation from the model, or compile the loss with "
            "`from_logits=False`."
        )
    config = {**divergence.get_config(), "from_logits": True}
    return type(divergence).from_config(config), logits


def _check_classes(divergence: Divergence, output: Any, name: str) -> None:
    if not isinstance(divergence, CategoricalConsistency):
        return
    if not output.shape or output.shape[divergence.axis] == 1:
        raise ValueError(
            f"Expected output '{name}' to hold two or more classes along "
            f"axis {divergence.axis}, since its loss is categorical. "
            f"Received: shape={tuple(output.shape)}. One class always has "
            "probability 1, so there is nothing to learn and nothing to "
            "compare. For one yes-or-no output use "
            "`keras.losses.BinaryCrossentropy`."
        )
