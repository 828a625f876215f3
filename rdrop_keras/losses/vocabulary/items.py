"""Which items count, how much each weighs, and in what order they go."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.losses.divergence import consistency_dtype
from rdrop_keras.losses.reduction import reduce_values

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
    weights = ops.ones(ops.shape(known), dtype)
    if sample_weight is not None:
        sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), dtype)
        rank = len(known.shape)
        if len(sample_weight.shape) == rank + 1:
            sample_weight = ops.squeeze(sample_weight, axis=-1)
        while len(sample_weight.shape) < rank:
            sample_weight = ops.expand_dims(sample_weight, -1)
        weights = weights * sample_weight
    counted = ops.ones_like(weights)
    if valid is not None:
        weights = ops.where(valid, weights, 0.0)
        counted = ops.cast(valid, dtype)
    if reduction in MEANS:
        weights = ops.divide_no_nan(weights, ops.sum(counted))
    elif reduction == "mean_with_sample_weight":
        weights = ops.divide_no_nan(weights, ops.sum(weights))
    # Keras divides means by the number of replicas, whose gradients add up.
    weights = weights * reduce_values(ops.ones((1,), dtype), reduction)
    return ops.where(known, weights, float("nan"))


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
