"""Which items count, how much each weighs, and in what order they go."""

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
    """The items of a batch in a row: those that count, then padding.

    Attributes:
        labels: Class ids, `(padded,)`, 0 where there is padding.
        weights: What each adds to the loss, between -1 and 1, `(padded,)`.
        scale: What the weights have been divided by.
        count: The number of items that count.
        sources: Of each place, which item is there; as many as there are
            items where it is padding.
        places: Of each item, at which place it is, or None for its own.
        valid: Of each item, whether it counts, or None for all.
    """

    labels: Any
    weights: Any
    scale: Any
    count: Any
    sources: Any
    places: Any
    valid: Any

    def gather(self, tensor: Any) -> Any:
        """Puts `(..., items, width)` into places, with zeros as padding."""
        leading = ops.shape(tensor)
        zero = ops.zeros((*leading[:-2], 1, leading[-1]), tensor.dtype)
        tensor = ops.concatenate([tensor, zero], axis=-2)
        return ops.take(tensor, self.sources, axis=-2)

    def restore(self, tensor: Any, items: Any) -> Any:
        """Undoes `gather` for a number of items; 0 where none counts."""
        if self.places is None:
            return tensor[..., :items, :]
        tensor = ops.take(tensor, self.places, axis=-2)
        return ops.where(ops.expand_dims(self.valid, -1), tensor, 0)


def item_weights(
    valid: Any, known: Any, sample_weight: Any, reduction: str
) -> Any:
    """Returns the factor of each item; the loss is the sum of all.

    Args:
        valid: Where items count, or None for all, `(batch, ...)`.
        known: Where their labels are classes, `(batch, ...)`. What counts and
            has none gets NaN.
        sample_weight: Their weights, or None.
        reduction: See `keras.losses.Loss`.
    """
    if reduction not in REDUCTIONS:
        known = ", ".join(f"'{name}'" for name in REDUCTIONS)
        raise ValueError(
            f"Expected `reduction` to be one of {known}, since gradients are "
            "computed before it is known what comes of the values of single "
            f"items. Received: reduction={reduction!r}."
        )
    dtype = consistency_dtype()
    if sample_weight is not None:
        sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), dtype)
        _check_weights(sample_weight.shape, known.shape)
    # By Keras's own code, which has a rule of its own for every shape.
    ones = ops.ones_like(known, dtype=dtype)
    weights = reduce_values(ones, None, sample_weight, valid)
    divided_by = sample_weight
    if sample_weight is not None and reduction != "mean_with_sample_weight":
        # What Keras divides by does not depend on them, and negative weights
        # may add up to 0.
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
    """Returns weights, as Keras makes them, in the shape of the items."""
    if len(weights.shape) > len(items.shape):
        weights = ops.squeeze(weights, axis=-1)
    elif len(weights.shape) < len(items.shape):
        weights = ops.expand_dims(weights, -1)
    # Fails where sizes that were unknown make more weights than items.
    return ops.broadcast_to(weights, ops.shape(items))


def arrange(labels: Any, weights: Any, valid: Any, chunk_size: int) -> Items:
    """Returns the items of labels `(batch, ...)`, padded to whole chunks."""
    labels = ops.reshape(labels, (-1,))
    weights = ops.reshape(weights, (-1,))
    items = ops.shape(labels)[0]
    # One at least, since XLA looks at the loop of an empty batch too.
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
        # One more place for all that does not count, to be cut off again.
        sources = ops.scatter_update(
            ops.full((padded + 1,), items, dtype="int32"),
            ops.expand_dims(ops.where(valid, places, padded), -1),
            own,
        )[:padded]
        places = ops.maximum(places, 0)
    # Single numbers near 1, whatever they are divided by: in half precision
    # the products of the gradients with the kernel would vanish.
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
