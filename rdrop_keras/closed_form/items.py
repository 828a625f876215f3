"""The items that count: their order and their weights."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.reduction import reduce_values

ops = keras.ops

MEANS = ("sum_over_batch_size", "mean")
REDUCTIONS = (*MEANS, "sum", "mean_with_sample_weight")


class Items(NamedTuple):
    """The items of a batch in one row: those that count, then padding.

    Attributes:
        labels: Class ids, `(padded,)`, 0 for padding.
        weights: The weight of each item in the loss, divided by `scale` to lie
            between -1 and 1, `(padded,)`.
        scale: The divisor of the weights.
        count: The number of items that count.
        sources: For each place, the index of its item, or the number of items
            for padding.
        places: For each item, its place, or None if items keep their order.
        valid: For each item, whether it counts, or None if all do.
    """

    labels: Any
    weights: Any
    scale: Any
    count: Any
    sources: Any
    places: Any
    valid: Any

    def gather(self, tensor: Any) -> Any:
        """Moves items, `(..., items, width)`, to their places; pads with 0."""
        leading = ops.shape(tensor)
        zero = ops.zeros((*leading[:-2], 1, leading[-1]), tensor.dtype)
        tensor = ops.concatenate([tensor, zero], axis=-2)
        return ops.take(tensor, self.sources, axis=-2)

    def restore(self, tensor: Any, items: Any) -> Any:
        """Undoes `gather`; items that do not count get 0."""
        if self.places is None:
            return tensor[..., :items, :]
        tensor = ops.take(tensor, self.places, axis=-2)
        return ops.where(ops.expand_dims(self.valid, -1), tensor, 0)


def item_weights(
    valid: Any, known: Any, sample_weight: Any, reduction: str
) -> Any:
    """Returns the weights of the items' values; their weighted sum is the loss.

    Args:
        valid: The mask of the items that count, or None, `(batch, ...)`.
        known: The mask of the items whose label is a valid class,
            `(batch, ...)`. The others get a weight of NaN.
        sample_weight: The sample weights, or None.
        reduction: See `keras.losses.Loss`.
    """
    if reduction not in REDUCTIONS:
        known = ", ".join(f"'{name}'" for name in REDUCTIONS)
        raise ValueError(
            f"Expected `reduction` to be one of {known}, since the gradients "
            "are computed together with the loss, which has to be a scalar. "
            f"Received: reduction={reduction!r}."
        )
    dtype = consistency_dtype()
    if sample_weight is not None:
        sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), dtype)
        _check_weights(sample_weight.shape, known.shape)
    # Keras's own code, whose broadcasting rules depend on the shapes.
    ones = ops.ones_like(known, dtype=dtype)
    weights = reduce_values(ones, None, sample_weight, valid)
    divided_by = sample_weight
    if sample_weight is not None and reduction != "mean_with_sample_weight":
        # Keras's divisor does not depend on the weights here, and negative
        # weights may sum to 0.
        divided_by = ops.ones_like(sample_weight)
    total = ops.sum(reduce_values(ones, None, divided_by, valid))
    reduced = reduce_values(ones, reduction, divided_by, valid)
    weights = weights * ops.divide_no_nan(reduced, total)
    return ops.where(known, _like_items(weights, known), float("nan"))


def _check_weights(shape: Any, items: Any) -> None:
    """Raises unless sample weights give every item one weight."""
    given, expected = tuple(shape), tuple(items)
    if len(given) == len(expected) + 1 and given[-1] == 1:
        given = given[:-1]
    elif len(expected) == len(given) + 1 and expected[-1] == 1:
        given = (*given, 1)
    sizes = zip(reversed(given), reversed(expected))
    if len(given) > len(expected) or any(
        a not in (1, b) and None not in (a, b) for a, b in sizes
    ):
        raise ValueError(
            "Expected `sample_weight` to have one weight for each row, of "
            "shape `(batch, 1)`, or for each item, of shape `(batch, time)`. "
            f"Received: sample_weight of shape {tuple(shape)} and labels of "
            f"shape {expected}. Keras broadcasts weights along the last axis."
        )


def _like_items(weights: Any, items: Any) -> Any:
    """Returns Keras's weights in the shape of the items."""
    if len(weights.shape) > len(items.shape):
        weights = ops.squeeze(weights, axis=-1)
    elif len(weights.shape) < len(items.shape):
        weights = ops.expand_dims(weights, -1)
    # Raises an error if dynamic sizes give more weights than items.
    return ops.broadcast_to(weights, ops.shape(items))


def arrange(labels: Any, weights: Any, valid: Any, chunk_size: int) -> Items:
    """Returns the items of labels `(batch, ...)`, padded to whole chunks."""
    labels = ops.reshape(labels, (-1,))
    weights = ops.reshape(weights, (-1,))
    items = ops.shape(labels)[0]
    # At least one chunk, since XLA compiles the loop for an empty batch too.
    chunks = (items + chunk_size - 1) // chunk_size
    if isinstance(items, int):
        chunks = max(chunks, 1)
    else:
        chunks = ops.maximum(chunks, 1)
    padded = chunks * chunk_size
    own = ops.arange(items, dtype="int32")
    if valid is None:
        count, places = items, None
        found = ops.arange(padded, dtype="int32")
        sources = ops.minimum(found, items)
    else:
        valid = ops.reshape(valid, (-1,))
        ones = ops.cast(valid, "int32")
        count = ops.sum(ones)
        places = ops.cumsum(ones) - 1
        # Items that do not count go to an extra place, which is cut off.
        sources = ops.scatter_update(
            ops.full((padded + 1,), items, dtype="int32"),
            ops.expand_dims(ops.where(valid, places, padded), -1),
            own,
        )[:padded]
        places = ops.maximum(places, 0)
    # Keeps the weights near 1, whatever the divisor of the reduction: in half
    # precision the products of small gradients with the kernel would underflow.
    scale = ops.max(ops.abs(weights), initial=0.0)
    scale = ops.where(scale > 0, scale, 1.0)

    def place(tensor):
        padding = ops.zeros((1,), tensor.dtype)
        return ops.take(ops.concatenate([tensor, padding]), sources)

    return Items(
        place(labels),
        place(weights / scale),
        scale,
        ops.cast(count, "int32"),
        sources,
        places,
        valid,
    )
