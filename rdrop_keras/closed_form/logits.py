"""Task loss and consistency of logits, with their gradient in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.custom_gradient import custom_gradient
from rdrop_keras.closed_form.derivatives import compare
from rdrop_keras.closed_form.derivatives import gradients
from rdrop_keras.closed_form.derivatives import once_only
from rdrop_keras.closed_form.softmax import Softmax
from rdrop_keras.divergences.base import check_outputs
from rdrop_keras.divergences.base import consistency_dtype
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.divergences.reduction import reduce_values

ops = keras.ops


class FusedLoss(NamedTuple):
    """The result of `fused_rdrop_loss`.

    Attributes:
        loss: The loss to minimize, `task_loss + alpha / m * consistency`.
        task_loss: The crossentropy, averaged over the passes.
        consistency: The divergence between the passes, without alpha.
    """

    loss: Any
    task_loss: Any
    consistency: Any


def fused_rdrop_loss(
    labels: Any,
    logits: Sequence[Any],
    alpha: Any = 1.0,
    label_smoothing: float = 0.0,
    ignore_class: int | None = None,
    mask: Any = None,
    sample_weight: Any = None,
    reduction: str | None = "sum_over_batch_size",
    stop_gradient: bool = False,
) -> FusedLoss:
    """Returns the R-Drop objective, given the logits of several passes.

    The objective is `1/m (T_1 + ... + T_m + alpha * C)` with the
    crossentropies `T_i` and the mean KL divergence `C` between the passes, as
    in `RDropModel`. Both use one softmax of each pass, which is all that is
    kept for the gradient. The gradient is explicit rather than automatic.

    Args:
        labels: Class ids `(batch, ...)` or `(batch, ..., 1)`, or
            distributions `(batch, ..., classes)` such as one-hot labels.
        logits: The logits of each pass, two or more tensors of one shape
            `(batch, ..., classes)`. Masks that Keras attached to them are
            used.
        alpha: Weight of the consistency, the paper's alpha. A number or a
            scalar tensor.
        label_smoothing: The probability that is shared by the other classes,
            as in `LabelSmoothedCrossentropy`. It affects the task loss only.
        ignore_class: The class id of items that count in neither term.
        mask: Optional mask of the items that count, `(batch, ...)`.
        sample_weight: Optional weights, as `keras.losses.Loss` takes them:
            `(batch, ...)` for each item, `(batch, 1)` for each row. Keras
            broadcasts others along the last axis, `(batch,)` included.
        reduction: See `keras.losses.Loss`.
        stop_gradient: Whether the first argument of every KL term is a
            constant target.

    Returns:
        A `FusedLoss`, in nats; scalars, or `(batch, ...)` if the reduction is
        None. Gradients flow through each part; second derivatives raise
        `NotImplementedError`.

    Raises:
        ValueError: If arguments do not fit each other.

    Example:

    >>> outputs = [np.array([[0.0, 0.0]]), np.array([[2.0, 0.0]])]
    >>> result = rdrop_keras.losses.fused_rdrop_loss(
    ...     np.array([0]), outputs, alpha=5.0)
    >>> round(float(result.loss), 4)
    1.362

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.3.
    """
    given = [ops.convert_to_tensor(z) for z in logits]
    classes = given[0].shape[-1] if given and len(given[0].shape) else None
    check_passes(given, "logits")
    check_classes(classes, given[0].shape)
    check_smoothing(label_smoothing)
    labels = ops.convert_to_tensor(labels)
    rank = len(given[0].shape)
    dense = len(labels.shape) == rank and labels.shape[-1] != 1
    shape = given[0].shape
    if mask is not None:
        mask = ops.cast(mask, "bool")
        check_items("mask", mask.shape, shape[:-1])
    valid = common_mask(logits, mask)
    if dense:
        check_items("labels", labels.shape, shape)
        if ignore_class is not None:
            raise ValueError(
                "Expected class ids beside `ignore_class`. Received: "
                f"ignore_class={ignore_class} and labels of shape "
                f"{tuple(labels.shape)}. Mark those items in `mask` instead."
            )
        target = ops.cast(labels, consistency_dtype())
    else:
        if len(labels.shape) == rank:
            labels = ops.squeeze(labels, axis=-1)
        check_items("labels", labels.shape, shape[:-1])
        target, valid = class_ids(labels, ignore_class, valid)

    tasks, consistency = fused_values(
        target, given, label_smoothing, dense, stop_gradient
    )
    task = sum(tasks) / len(tasks)
    if valid is not None:
        # Items that do not count were given class 0, whose loss may be
        # infinite.
        task = ops.where(valid, task, 0.0)
    task = reduce_values(task, reduction, sample_weight, valid)
    consistency = reduce_values(consistency, reduction, sample_weight, valid)
    weight = ops.cast(alpha, consistency.dtype) / len(given)
    return FusedLoss(task + weight * consistency, task, consistency)


def fused_values(
    target: Any,
    logits: Sequence[Any],
    label_smoothing: float = 0.0,
    dense: bool = False,
    stop_gradient: bool = False,
) -> tuple[list[Any], Any]:
    """Returns crossentropies and divergence of every item, not reduced.

    Args:
        target: Class ids `(...)`, or distributions `(..., classes)`. An invalid
            class id raises an error on the CPU without XLA, as in TensorFlow's
            own crossentropy, and makes the crossentropy NaN elsewhere.
        logits: The logits of each pass, `(..., classes)`.
        label_smoothing: See `Softmax.crossentropy`.
        dense: Whether the targets are distributions.
        stop_gradient: See `fused_rdrop_loss`.

    Returns:
        The crossentropy of each pass, and the mean KL divergence over all
        ordered pairs of passes, all `(...)`.
    """
    given = [ops.convert_to_tensor(z) for z in logits]
    known = None
    if not dense:
        classes = given[0].shape[-1]
        known = ops.logical_and(target >= 0, target < classes)
        # Negative ids would index from the end.
        target = ops.where(target < 0, classes, target)

    @custom_gradient
    def by_item(*logits):
        # Not recorded for automatic differentiation: the gradient is below.
        passes = [
            Softmax.of(ops.stop_gradient(z)) for z in check_outputs(logits)
        ]
        tasks = [
            each.crossentropy(target, label_smoothing, dense) for each in passes
        ]

        def gradient(*upstream):
            *of_tasks, of_pairs = (ops.expand_dims(u, -1) for u in upstream)
            results = gradients(
                passes,
                # Recomputed rather than kept in memory.
                compare(passes),
                of_tasks,
                of_pairs,
                target,
                label_smoothing,
                dense,
                stop_gradient,
            )
            results = [ops.cast(g, z.dtype) for g, z in zip(results, given)]
            return once_only(results, logits)

        return (*tasks, compare(passes).value()), gradient

    *tasks, consistency = by_item(*given)
    if known is not None:
        unknown = ops.where(known, 1.0, float("nan"))
        tasks = [task * unknown for task in tasks]
    return tasks, consistency


def class_ids(
    labels: Any, ignore_class: int | None, valid: Any
) -> tuple[Any, Any]:
    """Returns valid class ids, and the mask of items that count, or None."""
    labels = ops.cast(labels, "int32")
    if ignore_class is not None:
        counted = ops.not_equal(labels, ignore_class)
        valid = counted if valid is None else ops.logical_and(valid, counted)
    if valid is not None:
        # The labels of items that do not count need not be valid classes.
        labels = ops.where(valid, labels, 0)
    return labels, valid


def check_passes(tensors: Sequence[Any], name: str) -> None:
    """Raises unless there are two or more float tensors of one shape."""
    if len(tensors) < 2:
        raise ValueError(
            f"Expected `{name}` to hold the tensors of two or more passes. "
            f"Received: {len(tensors)}."
        )
    shapes = [tuple(tensor.shape) for tensor in tensors]
    for shape in shapes[1:]:
        check_items(name, shape, shapes[0])
    for tensor in tensors:
        dtype = keras.backend.standardize_dtype(tensor.dtype)
        if "float" not in dtype:
            raise ValueError(
                f"Expected `{name}` to be floating point. Received: "
                f"dtype={dtype}."
            )


def check_classes(classes: int | None, shape: Any) -> None:
    """Raises unless the number of classes is known and at least two."""
    if classes is None or classes < 2:
        raise ValueError(
            "Expected two or more classes along the last axis, and their "
            f"number to be known. Received: shape={tuple(shape)}."
        )


def check_smoothing(label_smoothing: float) -> None:
    """Raises unless `label_smoothing` is at least 0 and below 1."""
    if not 0 <= label_smoothing < 1:
        raise ValueError(
            "Expected `label_smoothing` to be at least 0 and below 1. "
            f"Received: label_smoothing={label_smoothing!r}."
        )


def check_items(name: str, shape: Any, expected: Any) -> None:
    """Raises unless a shape is the expected one; None fits any size."""
    shape, expected = tuple(shape), tuple(expected)
    if len(shape) != len(expected) or any(
        a != b for a, b in zip(shape, expected) if None not in (a, b)
    ):
        raise ValueError(
            f"Expected `{name}` to have the shape {expected}. Received: "
            f"shape={shape}."
        )
