"""The training step on TensorFlow: Keras's own step with R-Drop's objective."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import keras
import tensorflow as tf

from rdrop_keras import _keras
from rdrop_keras.closed_form import xla
from rdrop_keras.objective.result import Objective
from rdrop_keras.passes.observation import HeldAssignments
from rdrop_keras.training.checks import check_no_draws
from rdrop_keras.training.in_place import test_step
from rdrop_keras.training.metrics import Trackers
from rdrop_keras.training.metrics import report
from rdrop_keras.training.step import compute_objective
from rdrop_keras.training.step import compute_plain_objective
from rdrop_keras.training.tensorflow_first_batch import check_first_batch
from rdrop_keras.training.tensorflow_replicas import after_epoch
from rdrop_keras.training.tensorflow_replicas import over_replicas
from rdrop_keras.training.tensorflow_replicas import own_masks
from rdrop_keras.training.tensorflow_replicas import writes

__all__ = [
    "after_epoch",
    "aside",
    "check_first_batch",
    "dense",
    "either",
    "running_passes",
    "test_step",
    "train_step",
    "writes",
]


class Step(NamedTuple):
    """The objective, outputs and gradients of one batch."""

    objective: Objective
    y_pred: Any
    gradients: list[Any]


def train_step(model: Any, data: Any, trackers: Trackers) -> dict[str, Any]:
    """Takes one optimizer step on one batch.

    As in `keras.Model.train_step`, logs are not divided by the number of
    replicas, the optimizer scales the loss, and a model without trainable
    weights gets a warning.

    Args:
        model: A compiled `RDropMixin` model.
        data: A batch, in the form that `fit` passes to `train_step`.
        trackers: The metrics that average the loss and its parts.

    Returns:
        The logs: the model's own and the trackers'.
    """
    batch = keras.utils.unpack_x_y_sample_weight(data)

    def with_rdrop():
        return _differentiate(model, compute_objective, *batch)

    def plain():
        return _differentiate(model, compute_plain_objective, *batch)

    with own_masks(model):
        if model.rdrop.every == 1:
            step = with_rdrop()
        else:
            turn = model.optimizer.iterations % model.rdrop.every == 0
            step = either(turn, with_rdrop, plain)
    objective = over_replicas(step.objective)
    rows = tf.shape(
        next(leaf for leaf in keras.tree.flatten(batch[0]) if leaf is not None)
    )[0]
    alpha = model.rdrop.scheduled_alpha(model.optimizer.iterations)
    weights = model.trainable_weights
    if weights:
        model.optimizer.apply_gradients(zip(step.gradients, weights))
    else:
        warnings.warn("The model does not have any trainable weights.")
    return report(model, trackers, objective, step.y_pred, batch, rows, alpha)


def _differentiate(
    model: Any,
    compute: Callable[[Any, Any, Any, Any], tuple[Objective, Any]],
    x: Any,
    y: Any,
    sample_weight: Any,
) -> Step:
    with xla.compiling(model.jit_compile), tf.GradientTape() as tape:
        objective, y_pred = compute(model, x, y, sample_weight)
        loss = objective.loss
        if model.optimizer is not None:
            loss = model.optimizer.scale_loss(loss)
    weights = model.trainable_weights
    # Inside of the scope a regularized weight is a tensor.
    sources = [weight.value for weight in weights]
    with HeldAssignments(model) as backward:
        gradients = tape.gradient(loss, sources) if sources else []
    check_no_draws(backward)
    gradients = [
        dense(gradient, weight) for gradient, weight in zip(gradients, weights)
    ]
    # The comparisons are not needed any more, and `tf.cond` cannot return them.
    consistency = objective.consistency._replace(compared=())
    objective = objective._replace(consistency=consistency)
    return Step(objective, y_pred, gradients)


def dense(gradient: Any, weight: keras.Variable) -> Any:
    """Returns the gradient of one weight as a dense tensor.

    The gradient of an embedding is `tf.IndexedSlices`, in which a row that was
    looked up twice occurs twice. Several passes look up every row several
    times, and Keras's optimizers and clipping square the slices before they
    add them. Merging repeated rows would not be enough: replicas and gradient
    accumulation concatenate their slices again.

    Args:
        gradient: A tensor, `tf.IndexedSlices`, or None.
        weight: The weight to which the gradient belongs.
    """
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(
        gradient.values, gradient.indices, weight.shape[0]
    )


def either(
    condition: Any, if_true: Callable[[], Step], if_false: Callable[[], Step]
) -> Step:
    """Runs one of two steps and returns its results.

    Each branch computes its own gradients. Gradients through the condition
    would reserve memory for the activations of both branches.

    Args:
        condition: A boolean scalar, a tensor or not.
        if_true: A function that computes the step if the condition is true.
        if_false: A function that computes the other step, with results of the
            same structure.
    """
    structures = []

    def flat(make):
        def branch():
            step = make()
            leaves = tf.nest.flatten(step)
            masks = [_keras.mask_of(t) for t in tf.nest.flatten(step.y_pred)]
            present = [value is not None for value in [*leaves, *masks]]
            structures.append((step, present))
            return [
                tf.convert_to_tensor(value)
                for value in [*leaves, *masks]
                if value is not None
            ]

        return branch

    if not tf.is_tensor(condition) or tf.executing_eagerly():
        return if_true() if bool(condition) else if_false()
    values = iter(tf.cond(condition, flat(if_true), flat(if_false)))
    step, present = structures[0]
    restored = [next(values) if there else None for there in present]
    count = len(tf.nest.flatten(step))
    step = tf.nest.pack_sequence_as(step, restored[:count])
    for output, mask in zip(tf.nest.flatten(step.y_pred), restored[count:]):
        _keras.carry_mask(output, mask)
    return step


def running_passes(model: Any) -> contextlib.AbstractContextManager:
    """Returns a context in which the passes of a batch run."""
    return contextlib.nullcontext()


def aside(function: Callable[[], None]) -> None:
    """Calls a function without adding to the graph that is being traced."""
    if tf.executing_eagerly():
        function()
    else:
        tf.function(function, autograph=False).get_concrete_function()
