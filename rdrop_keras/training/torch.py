"""The training step on PyTorch: Keras's own step with R-Drop's objective."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import torch

from rdrop_keras.passes.observation import HeldAssignments
from rdrop_keras.training.checks import check_no_draws
from rdrop_keras.training.first_batch import look
from rdrop_keras.training.in_place import after_epoch
from rdrop_keras.training.in_place import test_step
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.metrics import report
from rdrop_keras.training.step import compute_objective
from rdrop_keras.training.step import compute_plain_objective
from rdrop_keras.training.torch_processes import aggregated
from rdrop_keras.training.torch_processes import averaged
from rdrop_keras.training.torch_processes import in_any_process
from rdrop_keras.training.torch_processes import writes

__all__ = [
    "after_epoch",
    "aside",
    "check_first_batch",
    "running_passes",
    "test_step",
    "train_step",
    "writes",
]


class _AssignsInPlace(HeldAssignments):
    """Holds assignments back, with the gradient that they have in place.

    PyTorch assigns without recording it: nothing is differentiated through the
    state that a layer assigns, and a weight that a layer assigns and then reads
    gets the gradient at its new value.
    """

    def add_update(self, update: tuple[keras.Variable, Any]) -> None:
        variable, value = update
        held = value.detach()
        if variable.trainable:
            # Adds 0 whose gradient is that of the weight.
            before = keras.ops.cast(variable.value, value.dtype)
            held = held + (before - before.detach())
        super().add_update((variable, held))


def train_step(model: Any, data: Any, trackers: Trackers) -> dict[str, Any]:
    """Takes one optimizer step on one batch.

    Args:
        model: A compiled `RDropMixin` model.
        data: A batch, in the form that `fit` passes to `train_step`.
        trackers: The metrics that average the loss and its parts.

    Returns:
        The logs: the model's own and the trackers'.
    """
    batch = keras.utils.unpack_x_y_sample_weight(data)
    optimizer = model.optimizer
    compute, alpha = compute_objective, {}
    if optimizer is not None:
        alpha = model.rdrop.scheduled_alpha(optimizer.iterations)
        every = model.rdrop.every
        # `int` waits for the device.
        if every > 1 and int(optimizer.iterations) % every:
            compute = compute_plain_objective
    # Until the backward pass is over, which may need the values before.
    with _AssignsInPlace(model) as forward:
        objective, y_pred = compute(model, *batch)
    model.zero_grad()
    loss = objective.loss
    if optimizer is not None:
        loss = optimizer.scale_loss(loss)
    weights = model.trainable_weights
    if weights:
        with _AssignsInPlace(model) as backward:
            loss.backward()
        check_no_draws(backward)
        forward.release()
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            optimizer.apply(averaged(model, gradients), weights)
    else:
        forward.release()
        warnings.warn("The model does not have any trainable weights.")
    with torch.no_grad():
        return report(
            model,
            trackers,
            objective,
            y_pred,
            batch,
            _rows(batch[0]),
            alpha,
            aggregated,
        )


def check_first_batch(
    model: Any,
    train_function: Callable[[Any], Any],
    trackers: Trackers,
    done: Callable[[], None],
) -> Callable[[Any], Any]:
    """Wraps a training function so that it checks the first batch.

    Args:
        model: A compiled `RDropMixin` model.
        train_function: The function that Keras calls for each step.
        trackers: The metrics that the steps update.
        done: A function to call when a batch has passed the checks.
    """

    def first_call(batches):
        found = error = None
        try:
            with torch.no_grad():
                found = look(model, batches[0])
        except Exception as raised:
            error = raised
        # The other processes would wait for this one in their first step.
        failed = in_any_process(model, error is not None)
        if error is not None:
            raise error
        if failed:
            raise ValueError(
                "Expected the first batch to pass the checks of R-Drop in all "
                "processes. Received an error in another one, which says why."
            )
        trackers.prepare(found.outputs)
        if in_any_process(model, found.decided):
            done()
        return train_function(batches)

    return first_call


@contextlib.contextmanager
def running_passes(model: Any) -> Iterator[None]:
    """Holds back assignments while the passes of a batch run.

    PyTorch assigns in place, and cannot differentiate a pass whose state was
    reset for the next pass.

    Args:
        model: A compiled `RDropMixin` model.
    """
    with _AssignsInPlace(model) as held:
        yield
    held.release()


def aside(function: Callable[[], None]) -> None:
    """Calls a function without recording it for automatic differentiation."""
    with torch.no_grad():
        function()


def _rows(x: Any) -> int:
    leaves = keras.tree.flatten(x)
    return next(leaf for leaf in leaves if leaf is not None).shape[0]
