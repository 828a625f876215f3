"""Training on TensorFlow: Keras's own step, with the R-Drop objective in it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from rdrop_keras.dropout import explain_identical_passes
from rdrop_keras.trackers import Trackers


def train_step(model: Any, data: Any, trackers: Trackers) -> dict[str, Any]:
    """Takes one optimizer step on one batch.

    Does what `keras.Model.train_step` does: the loss tracker is weighted by
    the batch size and free of the division by replicas, the optimizer scales
    the loss, a model without trainable weights gets a warning.

    Args:
        model: A compiled `RDropMixin` model.
        data: A batch as `fit` hands it over.
        trackers: Where the parts of the loss are averaged.

    Returns:
        The logs: the model's own and the trackers'.
    """
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    with tf.GradientTape() as tape:
        objective, y_pred = model._compute_objective(x, y, sample_weight)
        loss = objective.loss
        if model.optimizer is not None:
            loss = model.optimizer.scale_loss(loss)
    batch_size = tf.shape(
        next(leaf for leaf in keras.tree.flatten(x) if leaf is not None)
    )[0]
    for metric in model.metrics:
        if metric.name == "loss":
            metric.update_state(
                _over_replicas(objective.loss), sample_weight=batch_size
            )
            break
    trackers.update(
        _over_replicas(objective.task_loss),
        _over_replicas(objective.consistency.value),
        objective.consistency,
        batch_size,
    )
    weights = model.trainable_weights
    if weights:
        gradients = tape.gradient(loss, weights)
        model.optimizer.apply_gradients(zip(gradients, weights))
    else:
        warnings.warn("The model does not have any trainable weights.")
    logs = model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)
    return {**logs, **trackers.result()}


def check_first_call(
    model: Any,
    train_function: Callable[[Any], Any],
    trackers: Trackers,
    done: Callable[[], None],
) -> Callable[[Any], Any]:
    """Wraps a training function so that its first call is looked at.

    If the passes turn out to be identical, or what is read as probabilities
    to be none, every variable gets its value back and an error says why.

    Args:
        model: A compiled `RDropMixin` model.
        train_function: What Keras calls for each step.
        trackers: Those that the steps feed.
        done: Called once the first call was found good.
    """

    def first_call(iterator):
        variables = list(model.variables)
        if model.built and model.optimizer is not None:
            if not model.optimizer.built:
                model.optimizer.build(model.trainable_variables)
            variables += model.optimizer.variables
        before = [keras.ops.convert_to_numpy(v) for v in variables]
        logs = train_function(iterator)
        message = None
        if trackers.all_identical():
            message = explain_identical_passes(model)
        elif trackers.any_improper():
            message = _IMPROPER
        if message is not None:
            for variable, value in zip(variables, before):
                variable.assign(value)
            raise ValueError(message)
        done()
        return logs

    return first_call


_IMPROPER = (
    "Expected the model's output to be probabilities, between 0 and 1, since "
    "its loss says `from_logits=False`. Received values outside that range on "
    "the first training step. If the output is logits, compile the loss with "
    "`from_logits=True`; if not, add a softmax or sigmoid. The weights are as "
    "they were before the step."
)


def _over_replicas(loss: Any) -> Any:
    """Undoes the division by replicas that Keras's losses make.

    Gradients are summed over replicas, so losses are divided by their number;
    what is reported must not be.
    """
    return loss * tf.cast(
        tf.distribute.get_strategy().num_replicas_in_sync, loss.dtype
    )
