"""The objective of a vocabulary head as a function of hidden states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.chunks import Head
from rdrop_keras.closed_form.custom_gradient import custom_gradient
from rdrop_keras.closed_form.derivatives import once_only
from rdrop_keras.closed_form.items import arrange
from rdrop_keras.closed_form.items import item_weights
from rdrop_keras.closed_form.logits import check_classes
from rdrop_keras.closed_form.logits import check_items
from rdrop_keras.closed_form.logits import check_passes
from rdrop_keras.closed_form.logits import check_smoothing
from rdrop_keras.closed_form.logits import class_ids
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.reduction import common_mask

ops = keras.ops

# The memory of one chunk's logits in all passes, with `chunk_size="auto"`.
CHUNK_BYTES = 2**25


class VocabularyLoss(NamedTuple):
    """The result of `vocabulary_rdrop_loss`.

    Attributes:
        loss: The loss to minimize, `task_loss + alpha / m * consistency`.
        task_loss: The crossentropy, averaged over the passes.
        consistency: The divergence between the passes, without alpha.
        correct: The number of counted items whose label is the most probable
            class of the first pass.
        nll: The first pass's crossentropy, neither smoothed nor weighted,
            summed over the items that count.
        count: The number of items that count.
    """

    loss: Any
    task_loss: Any
    consistency: Any
    correct: Any
    nll: Any
    count: Any


def vocabulary_rdrop_loss(
    labels: Any,
    hidden: Sequence[Any],
    kernel: Any,
    bias: Any = None,
    alpha: Any = 1.0,
    transposed: bool = False,
    label_smoothing: float = 0.0,
    ignore_class: int | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: str = "sum_over_batch_size",
    stop_gradient: bool = False,
    chunk_size: int | str = "auto",
    gradients: bool = True,
) -> VocabularyLoss:
    """Returns the objective of a vocabulary head, never holding all logits.

    The value is that of `fused_rdrop_loss` for the logits `[h @ kernel + bias
    for h in hidden]`, computed in chunks of items. For each chunk the forward
    pass computes the logits of all passes, their part of the loss, and their
    part of the gradients of the hidden states, the kernel and the bias. The
    backward pass multiplies these gradients by the incoming derivative.

    Masked and ignored items cost nothing: the items that count are gathered
    first.

    Args:
        labels: Class ids, `(batch, ...)` or `(batch, ..., 1)`.
        hidden: The inputs of the head in each pass, two or more tensors of
            one shape `(batch, ..., width)`. Masks that Keras attached to them
            are used. Products with the kernel are computed in their dtype,
            everything else in float32.
        kernel: The kernel of the head, `(width, vocabulary)`.
        bias: Optional, `(vocabulary,)`. `-inf` forbids a class.
        alpha: Weight of the consistency, the paper's alpha. A number or a
            scalar tensor; it gets no gradient.
        transposed: Whether the kernel is `(vocabulary, width)`, as tied
            embeddings are.
        label_smoothing: The probability that is shared by the other classes,
            as in `LabelSmoothedCrossentropy`. It affects the task loss only.
        ignore_class: The class id of items that count in neither term.
        mask: Optional mask of the items that count, `(batch, ...)`.
        sample_weight: Optional weights, as `keras.losses.Loss` takes them:
            `(batch, ...)` for each item, `(batch, 1)` for each row. Keras
            broadcasts others along the last axis, `(batch,)` included.
        reduction: `"sum_over_batch_size"`, `"mean"`, `"sum"` or
            `"mean_with_sample_weight"`, as in `keras.losses.Loss`.
        stop_gradient: Whether the first argument of every KL term is a
            constant target.
        chunk_size: The number of items whose logits are held at a time, or
            `"auto"` for as many as fit into 32 MiB.
        gradients: Whether to compute gradients. They are computed together
            with the loss, even outside of a gradient tape; pass False for
            evaluation.

    Returns:
        A `VocabularyLoss` of scalars, in nats. Gradients flow through `loss`
        only, and second derivatives raise `NotImplementedError`. If an item
        counts and its label is not a valid class, the loss is NaN.

    Raises:
        ValueError: If arguments do not fit each other.

    Example:

    >>> hidden = [np.ones((1, 3, 4), "float32"), np.zeros((1, 3, 4), "float32")]
    >>> head = keras.layers.Dense(5)
    >>> head.build((None, None, 4))
    >>> result = rdrop_keras.losses.vocabulary_rdrop_loss(
    ...     np.array([[1, 2, 0]]), hidden, head.kernel, head.bias, alpha=5.0,
    ...     ignore_class=0)
    >>> int(result.count)
    2

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.3.
    """
    states = [ops.convert_to_tensor(h) for h in hidden]
    # Copied, since a custom gradient takes tensors and no variables.
    kernel = ops.copy(kernel)
    classes = _check_head(states, kernel, transposed)
    check_smoothing(label_smoothing)
    trained = [*states, kernel]
    if bias is not None:
        trained.append(ops.copy(bias))
        check_items("bias", trained[-1].shape, (classes,))
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
    weights = item_weights(valid, known, sample_weight, reduction)
    labels = ops.where(known, labels, 0)
    chunk_size = items_in_chunk(chunk_size, len(states), classes, labels.shape)
    items = arrange(labels, weights, valid, chunk_size)
    alpha = ops.cast(alpha, consistency_dtype())
    dtype = states[0].dtype
    settings = {
        "transposed": transposed,
        "dtype": dtype,
        "alpha": ops.stop_gradient(alpha),
        "label_smoothing": label_smoothing,
        "stop_gradient": stop_gradient,
        "chunk_size": chunk_size,
    }

    def compute(*trained):
        # Not recorded for automatic differentiation: the gradients are known.
        constants = [ops.stop_gradient(tensor) for tensor in trained]
        passes = constants[: len(states)]
        kernel, *bias = constants[len(states) :]
        head = Head.of(kernel, bias[0] if bias else None, **settings)
        width = passes[0].shape[-1]
        rows = [ops.reshape(h, (-1, width)) for h in passes]
        placed = items.gather(ops.stack([ops.cast(h, dtype) for h in rows]))
        if gradients:
            sums, found = head.sums_and_gradients(placed, items)
            of_states = items.restore(found[0], ops.shape(rows[0])[0])
            stored = [*ops.unstack(of_states, len(passes)), *found[1:]]
        else:
            sums, stored = head.sums(placed, items), []
        task = sums.task * items.scale
        consistency = sums.consistency * items.scale
        loss = task + head.alpha / len(passes) * consistency
        count = ops.cast(items.count, sums.correct.dtype)
        values = (loss, task, consistency, sums.correct, sums.nll, count)

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
        return VocabularyLoss(*values)
    loss, *others = custom_gradient(compute)(*trained)
    return VocabularyLoss(loss, *(ops.stop_gradient(v) for v in others))


def _check_head(states: Sequence[Any], kernel: Any, transposed: bool) -> int:
    """Returns the number of classes; raises if the kernel does not fit."""
    check_passes(states, "hidden")
    width = states[0].shape[-1] if len(states[0].shape) else None
    if len(kernel.shape) == 2:
        found, classes = kernel.shape[::-1] if transposed else kernel.shape
        if width is not None and found == width:
            check_classes(classes, kernel.shape)
            return classes
    expected = "(vocabulary, width)" if transposed else "(width, vocabulary)"
    raise ValueError(
        f"Expected a kernel {expected} that fits hidden states "
        f"(batch, ..., width). Received: kernel of shape {tuple(kernel.shape)} "
        f"and hidden states of shape {tuple(states[0].shape)}. Embeddings "
        "that the head is tied to take `transposed=True`."
    )


def items_in_chunk(
    chunk_size: int | str, passes: int, classes: int, shape: Sequence[Any]
) -> int:
    """Returns the number of items in a chunk.

    Args:
        chunk_size: The most items in a chunk, or `"auto"`.
        passes: The number of passes.
        classes: The number of classes.
        shape: The shape of the items, `(batch, ...)`.

    Raises:
        ValueError: If the size is neither a positive integer nor `"auto"`.
    """
    if chunk_size == "auto":
        chunk_size = max(CHUNK_BYTES // (4 * passes * classes), 1)
    elif not isinstance(chunk_size, int) or chunk_size < 1:
        raise ValueError(
            "Expected `chunk_size` to be a positive number of items or "
            f"'auto'. Received: chunk_size={chunk_size!r}."
        )
    if None in shape:
        return chunk_size
    # Chunks of equal size need the least padding.
    items = max(math.prod(shape), 1)
    return math.ceil(items / math.ceil(items / chunk_size))
