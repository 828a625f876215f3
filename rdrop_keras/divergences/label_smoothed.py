"""Crossentropy with label smoothing for class ids."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import consistency_dtype

ops = keras.ops


def label_smoothed_crossentropy(
    y_true: Any,
    y_pred: Any,
    label_smoothing: float = 0.1,
    ignore_class: int | None = None,
) -> Any:
    """Returns the loss of every item; see `LabelSmoothedCrossentropy`."""
    logits = ops.cast(y_pred, consistency_dtype())
    y_true = ops.convert_to_tensor(y_true)
    if len(y_true.shape) == len(logits.shape):
        y_true = ops.squeeze(y_true, axis=-1)
    y_true = ops.cast(y_true, "int32")
    classes = logits.shape[-1]
    valid = None
    if ignore_class is not None:
        valid = ops.not_equal(y_true, ignore_class)
        # The ignored id need not be a valid class.
        y_true = ops.where(valid, y_true, 0)
    values = ops.sparse_categorical_crossentropy(
        y_true, logits, from_logits=True
    )
    if label_smoothing and classes > 1:
        share = label_smoothing / (classes - 1)
        # (1 - e - s) nll + s (n log z - sum), where log z = nll + target.
        values += share * (
            classes * _of_class(logits, y_true) - ops.sum(logits, axis=-1)
        )
    if valid is None:
        return values
    return _keras.carry_mask(ops.where(valid, values, 0.0), valid)


def _of_class(logits: Any, y: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        indices = ops.expand_dims(y, axis=-1)
        return ops.squeeze(ops.take_along_axis(logits, indices, -1), axis=-1)
    # `take` has the cheapest gradient on TensorFlow, where `take_along_axis`
    # takes twice as long as the crossentropy itself. The indices need 64 bits,
    # which JAX does not have: 70,000 tokens of 32,000 words overflow 32.
    rows = ops.arange(ops.size(y), dtype="int64") * logits.shape[-1]
    indices = rows + ops.cast(ops.reshape(y, (-1,)), "int64")
    return ops.reshape(
        ops.take(ops.reshape(logits, (-1,)), indices), ops.shape(y)
    )


@keras.saving.register_keras_serializable(package="rdrop_keras")
class LabelSmoothedCrossentropy(keras.losses.Loss):
    """Crossentropy with label smoothing, from class ids and logits.

    Computes, for each item, the crossentropy between the model's distribution
    and one that gives `1 - label_smoothing` to the label and shares the rest
    equally among all other classes. Keras smooths one-hot labels only, which
    for `(batch, time, vocabulary)` are as large as the logits.

    The values are fairseq's for the same `label_smoothing`. In Keras and
    PyTorch the label receives a share of the rest too: their
    `label_smoothing` e with n classes is `e (n - 1) / n` here.

    Args:
        label_smoothing: The probability that is shared by the other classes,
            at least 0 and below 1.
        ignore_class: The class id of items that have no label. They do not
            count in the loss.
        reduction: See `keras.losses.Loss`.
        name: Optional name.
        dtype: The dtype of the computation, float32 by default.

    Call arguments:
        y_true: Class ids, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: Logits, `(batch, ..., classes)`.
        sample_weight: Optional weights, as for any Keras loss.

    Raises:
        ValueError: If `label_smoothing` is out of range.

    Example:

    >>> loss = rdrop_keras.losses.LabelSmoothedCrossentropy(0.1)
    >>> round(float(loss([0], [[2.0, 0.0, 0.0]])), 4)
    0.4395

    Reference:
        [Szegedy et al., 2016](https://arxiv.org/abs/1512.00567), section 7;
        with R-Drop [Liang et al., 2021](https://arxiv.org/abs/2106.14448),
        appendix A.1.
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        ignore_class: int | None = None,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "label_smoothed_crossentropy",
        dtype: Any = None,
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "Expected `label_smoothing` to be at least 0 and below 1. "
                f"Received: label_smoothing={label_smoothing!r}."
            )
        super().__init__(
            name=name, reduction=reduction, dtype=dtype or consistency_dtype()
        )
        # The names under which Keras's own losses keep their options.
        self.fn = label_smoothed_crossentropy
        self.from_logits = True
        self.label_smoothing = label_smoothing
        self.ignore_class = ignore_class

    def call(self, y_true, y_pred):
        return label_smoothed_crossentropy(
            y_true, y_pred, self.label_smoothing, self.ignore_class
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "ignore_class": self.ignore_class,
        }
