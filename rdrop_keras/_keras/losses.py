"""The losses that a model is compiled with."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
from keras.src.losses.loss import squeeze_or_expand_to_same_rank as same_rank

from rdrop_keras._keras.tensors import to_overwrite


def compiled_loss(model: keras.Model) -> Any:
    """Returns the object that `compile(loss=...)` made, or None."""
    return getattr(model, "_compile_loss", None)


def weights_to_spend(sample_weight: Any, mask: Any = None) -> Any:
    """Returns sample weights that a loss or metric may overwrite.

    Keras 3.15 multiplies them by the mask in place. On PyTorch that changes the
    tensor of the caller, so that the next loss would count the mask once more,
    and fails if the product is larger than the weights.

    Args:
        sample_weight: A structure of weights, or None.
        mask: The mask that the loss is going to apply to all of them, if known.
    """
    if keras.backend.backend() != "torch" or sample_weight is None:
        return sample_weight
    if mask is not None:
        mask, sample_weight = same_rank(
            keras.ops.convert_to_tensor(mask),
            keras.ops.convert_to_tensor(sample_weight),
        )
        return sample_weight * keras.ops.ones_like(mask, sample_weight.dtype)
    return to_overwrite(sample_weight)


def options_of_function(loss: Any) -> dict[str, Any]:
    """Returns the keyword arguments that a loss passes to its function.

    `get_config` has them only serialized and among other entries.
    """
    return getattr(loss, "_fn_kwargs", {})


class LossEntry(NamedTuple):
    """One of the losses that a model is compiled with, and its arguments.

    Attributes:
        loss: The `keras.losses.Loss`.
        name: The name of its output.
        weight: Its loss weight, or None.
        y_true: Its targets.
        y_pred: Its output, a tensor or a structure of tensors.
        sample_weight: Its sample weights, or None.
    """

    loss: Any
    name: str
    weight: Any
    y_true: Any
    y_pred: Any
    sample_weight: Any


def loss_entries(
    compiled: Any, y_true: Any, y_pred: Any, sample_weight: Any
) -> list[LossEntry]:
    """Returns the losses of a built compiled loss, each with its arguments.

    Keras matches losses with nested outputs, targets and sample weights in its
    private `CompileLoss.call`. This function runs the same code, with each
    loss replaced by a function that records its arguments.
    """
    entries: list[LossEntry] = []

    def recorder(entry):
        def record(*batch):
            entries.append(
                LossEntry(entry.loss, entry.name, entry.loss_weights, *batch)
            )
            return keras.ops.zeros(())

        return record

    _with_losses(compiled, recorder, feed_metrics=False)(
        y_true, y_pred, sample_weight
    )
    return entries


def weighted_sum_of_losses(
    compiled: Any,
    values: Sequence[Any],
    y_true: Any,
    y_pred: Any,
    sample_weight: Any,
) -> Any:
    """Returns the compiled loss, given the value of each of its losses.

    Keras's code applies the loss weights and updates the metrics that it keeps
    for the loss of each output.

    Args:
        compiled: The result of `compiled_loss`, after its first call.
        values: One value for each of `loss_entries`.
        y_true: The targets.
        y_pred: The outputs.
        sample_weight: The sample weights.
    """
    remaining = iter(values)
    replaced = _with_losses(
        compiled, lambda entry: lambda *batch: next(remaining)
    )
    return replaced(y_true, y_pred, sample_weight)


def _with_losses(
    compiled: Any,
    replace: Callable[[Any], Callable[..., Any]],
    feed_metrics: bool = True,
) -> Callable[[Any, Any, Any], Any]:
    # `copy.copy` would run the saving hooks of `keras.losses.Loss`.
    clone = object.__new__(type(compiled))
    clone.__dict__.update(compiled.__dict__)
    clone._flat_losses = [
        entry._replace(loss=replace(entry)) for entry in compiled._flat_losses
    ]
    if not feed_metrics:
        # One falsy entry for each loss: Keras zips losses with metrics.
        clone._metrics = [None] * len(clone._flat_losses)
    return clone
