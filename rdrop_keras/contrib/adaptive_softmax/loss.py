"""The objective of an adaptive softmax as a function of hidden states."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.closed_form.custom_gradient import custom_gradient
from rdrop_keras.closed_form.derivatives import once_only
from rdrop_keras.closed_form.hidden import VocabularyLoss
from rdrop_keras.closed_form.hidden import items_in_chunk
from rdrop_keras.closed_form.items import arrange
from rdrop_keras.closed_form.items import item_weights
from rdrop_keras.closed_form.logits import check_items
from rdrop_keras.closed_form.logits import check_passes
from rdrop_keras.closed_form.logits import class_ids
from rdrop_keras.contrib.adaptive_softmax.chunks import AdaptiveHead
from rdrop_keras.contrib.adaptive_softmax.weights import AdaptiveWeights
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.reduction import common_mask

ops = keras.ops


def adaptive_rdrop_loss(
    labels: Any,
    hidden: Sequence[Any],
    layer: Any,
    alpha: Any = 1.0,
    ignore_class: int | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: str = "sum_over_batch_size",
    stop_gradient: bool = False,
    chunk_size: int | str = "auto",
    gradients: bool = True,
    training: bool | None = None,
) -> VocabularyLoss:
    """Returns the objective of an adaptive softmax, computed in chunks.

    The value is `1/m (T_1 + ... + T_m + alpha * C)` with the crossentropies
    `T_i` of the m passes and the mean KL divergence `C` over all ordered pairs
    of them, as in `fused_rdrop_loss` for `[layer(h) for h in hidden]`. By the
    chain rule, the divergence over the whole vocabulary is that between the
    heads plus, for every cluster, the divergence within the cluster weighted
    by the probability of the cluster.

    For each chunk of items the forward pass computes the softmaxes of all
    passes, their part of the loss and their part of the gradients. The
    backward pass multiplies these gradients by the incoming derivative.

    A task loss is cheap with an adaptive softmax, because an item needs the
    head and the cluster of its label only. The divergence needs every cluster
    for every item, so only the smaller width of the clusters saves time.

    Masked and ignored items cost next to nothing: the items that count are
    gathered first.

    Args:
        labels: Class ids, `(batch, ...)` or `(batch, ..., 1)`.
        hidden: The inputs of the layer in each pass, two or more tensors of
            one shape `(batch, ..., width)`. Masks that Keras attached to them
            are used. Matrix products are computed in their dtype, everything
            else in float32.
        layer: A `rdrop_keras.layers.AdaptiveSoftmax` that has been built, or
            `AdaptiveWeights`.
        alpha: Weight of the consistency, the paper's alpha. A number or a
            scalar tensor; it gets no gradient.
        ignore_class: The class id of items that count in neither term.
        mask: Optional mask of the items that count, `(batch, ...)`.
        sample_weight: Optional weights, as `keras.losses.Loss` takes them:
            `(batch, ...)` for each item, `(batch, 1)` for each row. Keras
            broadcasts others along the last axis, `(batch,)` included.
        reduction: `"sum_over_batch_size"`, `"mean"`, `"sum"` or
            `"mean_with_sample_weight"`, as in `keras.losses.Loss`.
        stop_gradient: Whether the first argument of every KL term is a
            constant target.
        chunk_size: The number of items whose log-probabilities are held at a
            time, or `"auto"` for as many as fit into 32 MiB.
        gradients: Whether to compute gradients. They are computed together
            with the loss, even outside of a gradient tape; pass False for
            evaluation.
        training: Whether the layer's dropout is active, with different masks
            in each pass.

    Returns:
        A `rdrop_keras.closed_form.hidden.VocabularyLoss` of scalars, in nats.
        Gradients flow through `loss` only, and second derivatives raise
        `NotImplementedError`. If an item counts and its label is not a valid
        class, the loss is NaN.

    Raises:
        ValueError: If arguments do not fit each other.
        TypeError: If `layer` is neither a layer nor `AdaptiveWeights`.

    Example:

    >>> from rdrop_keras.contrib.adaptive_softmax.layer import AdaptiveSoftmax
    >>> hidden = [np.ones((1, 3, 8), "float32"), np.zeros((1, 3, 8), "float32")]
    >>> layer = AdaptiveSoftmax(10, cutoffs=[4])
    >>> layer.build((None, None, 8))
    >>> result = rdrop_keras.losses.adaptive_rdrop_loss(
    ...     np.array([[1, 9, 0]]), hidden, layer, alpha=5.0, ignore_class=0)
    >>> int(result.count)
    2

    Reference:
        [Grave et al., 2017](https://arxiv.org/abs/1609.04309), section 4, and
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1.
    """
    states = [ops.convert_to_tensor(h) for h in hidden]
    check_passes(states, "hidden")
    weights, drop = _read(layer, training)
    weights.check(states[0].shape[-1] if len(states[0].shape) else None)
    classes = weights.cutoffs[-1]
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) == len(states[0].shape):
        labels = ops.squeeze(labels, axis=-1)
    check_items("labels", labels.shape, states[0].shape[:-1])
    if mask is not None:
        mask = ops.cast(mask, "bool")
        check_items("mask", mask.shape, labels.shape)
    valid = common_mask(hidden, mask)
    labels, valid = class_ids(labels, ignore_class, valid)
    known = ops.logical_and(labels >= 0, labels < classes)
    factors = item_weights(valid, known, sample_weight, reduction)
    labels = ops.where(known, labels, 0)
    chunk_size = items_in_chunk(chunk_size, len(states), classes, labels.shape)
    items = arrange(labels, factors, valid, chunk_size)
    dtype = states[0].dtype
    alpha = ops.stop_gradient(ops.cast(alpha, consistency_dtype()))
    settings = {
        "dtype": dtype,
        "alpha": alpha,
        "stop_gradient": stop_gradient,
        "chunk_size": chunk_size,
    }
    if valid is not None:
        # Items that do not count may hold NaN, and 0 times NaN would make the
        # gradient of the projections NaN.
        counts = ops.expand_dims(valid, -1)
        states = [ops.where(counts, h, 0) for h in states]
    # The backend differentiates the projections, which are small, as are their
    # results. So their dropout needs no code of its own.
    projected = [weights.project(ops.cast(h, dtype), drop) for h in states]
    passes = len(projected)
    kernels = [weights.kernel, *weights.kernels]
    trained = [*(s for group in zip(*projected) for s in group), *kernels]
    if weights.bias is not None:
        trained.append(weights.bias)

    def compute(*trained):
        # Not recorded for automatic differentiation: the gradients are known.
        constants = [ops.stop_gradient(tensor) for tensor in trained]
        count = passes * len(kernels)
        bias = constants[count + len(kernels) :]
        head = AdaptiveHead.of(
            constants[count : count + len(kernels)],
            bias[0] if bias else None,
            **settings,
        )
        rows = [ops.reshape(h, (-1, h.shape[-1])) for h in constants[:count]]
        placed = [
            items.gather(ops.stack(rows[at : at + passes]))
            for at in range(0, count, passes)
        ]
        stored = []
        if gradients:
            sums, found = head.sums_and_gradients(placed, items)
            total = ops.shape(rows[0])[0]
            for of_states in found[: len(kernels)]:
                restored = items.restore(of_states, total)
                stored.extend(ops.unstack(restored, passes))
            stored.extend(found[len(kernels) :])
        else:
            sums = head.sums(placed, items)
        task = sums.task * items.scale
        consistency = sums.consistency * items.scale
        loss = task + head.alpha / passes * consistency
        counted = ops.cast(items.count, sums.correct.dtype)
        values = (loss, task, consistency, sums.correct, sums.nll, counted)

        def gradient(*upstream):
            scale = upstream[0] * items.scale
            found = [
                ops.cast(
                    ops.reshape(ops.cast(g, scale.dtype) * scale, ops.shape(t)),
                    t.dtype,
                )
                for g, t in zip(stored, constants)
            ]
            return once_only(found, trained)

        return values, gradient

    if not gradients:
        values, _ = compute(*trained)
        return VocabularyLoss(*(ops.stop_gradient(v) for v in values))
    loss, *others = custom_gradient(compute)(*trained)
    return VocabularyLoss(loss, *(ops.stop_gradient(v) for v in others))


def _read(
    layer: Any, training: bool | None
) -> tuple[AdaptiveWeights, Callable[[Any], Any] | None]:
    """Returns the weights as tensors, and the layer's dropout or None."""
    drop = None
    weights = layer
    if not isinstance(layer, AdaptiveWeights):
        if not hasattr(layer, "adaptive_weights"):
            raise TypeError(
                "Expected `layer` to be an `AdaptiveSoftmax` layer or "
                f"`AdaptiveWeights`. Received: layer={layer!r}. A plain head "
                "takes `vocabulary_rdrop_loss`."
            )
        weights = layer.adaptive_weights()

        def drop(state):
            return layer.tail_dropout(state, training=training)

    # Copied, since a custom gradient takes tensors and no variables.
    weights = AdaptiveWeights(
        ops.copy(weights.kernel),
        None if weights.bias is None else ops.copy(weights.bias),
        [ops.copy(projection) for projection in weights.projections],
        [ops.copy(kernel) for kernel in weights.kernels],
    )
    return weights, drop
