"""The objective of one batch: the passes, their losses and consistency."""

from __future__ import annotations

from typing import Any

from rdrop_keras import _keras
from rdrop_keras.objective.all_outputs import compare_outputs
from rdrop_keras.objective.entries import loss_entries
from rdrop_keras.objective.from_hidden import chunked_objective
from rdrop_keras.objective.result import Objective
from rdrop_keras.objective.result import combine
from rdrop_keras.objective.result import mean_of
from rdrop_keras.objective.result import plain_objective
from rdrop_keras.objective.task_loss import additional_losses
from rdrop_keras.objective.task_loss import loss_of_pass
from rdrop_keras.passes import Batch
from rdrop_keras.passes import run_passes
from rdrop_keras.passes.concat import run_concat
from rdrop_keras.passes.observation import Observation
from rdrop_keras.passes.observation import observe
from rdrop_keras.passes.without_head import deferring
from rdrop_keras.training import checks
from rdrop_keras.training import trainer


def compute_objective(
    model: Any, x: Any, y: Any, sample_weight: Any
) -> tuple[Objective, Any]:
    """Runs the passes on a batch and computes their objective.

    Args:
        model: A compiled `RDropMixin` model.
        x: Inputs, of any structure.
        y: Targets, of any structure.
        sample_weight: The sample weights, as passed to `fit`.

    Returns:
        The `Objective`, and the outputs of the first pass. With
        `RDrop(vocabulary_chunk=...)` the second is the input of the last layer.
    """
    settings = model.rdrop
    checks.check_not_float8(model)
    if settings.vocabulary_chunk is not None:
        checks.check_chunks(model)
    observation = observed(model, x, y, sample_weight)
    if settings.vocabulary_chunk is not None:
        return _in_chunks(model, x, y, sample_weight, observation)
    compiled_loss = _keras.compiled_loss(model)
    # An overridden `compute_loss` has to run as it is.
    together = compiled_loss is not None and checks.is_from_keras(
        model.compute_loss
    )

    def finish(output):
        if together:
            return output, additional_losses(model)
        spent = _keras.to_overwrite((x, y, output))
        return output, loss_of_pass(model, *spent, sample_weight)

    with trainer().running_passes(model):
        passes = run_passes(Batch(model, x, settings, observation, finish))
    outputs, losses = zip(*passes)
    task_loss = mean_of(losses)
    batch = (compiled_loss, settings, y, outputs, sample_weight, _alpha(model))
    compiled, consistency = compare_outputs(*batch, with_task_loss=together)
    if together:
        task_loss = task_loss + compiled
    return combine(task_loss, consistency, len(outputs)), outputs[0]


def compute_plain_objective(
    model: Any, x: Any, y: Any, sample_weight: Any
) -> tuple[Objective, Any]:
    """Runs one pass, as in plain training.

    Args:
        model: A compiled `RDropMixin` model.
        x: Inputs, of any structure.
        y: Targets, of any structure.
        sample_weight: The sample weights, as passed to `fit`.

    Returns:
        The `Objective`, and the outputs.
    """
    y_pred = model(x, training=True)
    loss = loss_of_pass(model, x, y, y_pred, sample_weight)
    entries = loss_entries(
        _keras.compiled_loss(model), model.rdrop, y, [y_pred], sample_weight
    )
    names = {entry.name: None for (entry,) in entries}
    return plain_objective(loss, names if len(names) > 1 else ()), y_pred


def observed(model: Any, x: Any, y: Any, sample_weight: Any) -> Observation:
    """Returns the `Observation` of a training-mode call of the model.

    The call is observed once after each `compile`, on the first batch.

    Args:
        model: A compiled `RDropMixin` model.
        x: Inputs, of any structure.
        y: Targets, of any structure.
        sample_weight: The sample weights, as passed to `fit`.
    """

    def run(called):
        if model.rdrop.passes == "concat":
            # The repeated batch: the model may depend on the batch size.
            return next(run_concat(called, x, model.rdrop.num_passes))
        return called(_keras.to_overwrite(x), training=True)

    def finish(output):
        spent = _keras.to_overwrite((x, y, output))
        loss_of_pass(model, *spent, sample_weight)

    def look():
        if not model.built:
            model(_keras.to_overwrite(x), training=False)
        own_loss = not checks.is_from_keras(model.compute_loss)
        model._rdrop_observation = observe(
            model, run, finish if own_loss else None
        )

    if model._rdrop_observation is None:
        trainer().aside(look)
    return model._rdrop_observation


def _in_chunks(model, x, y, sample_weight, observation):
    with deferring(model) as (deferred, replacements):

        def finish(output):
            return deferred.hidden_of(output), additional_losses(model)

        with trainer().running_passes(model):
            passes = run_passes(
                Batch(model, x, model.rdrop, observation, finish, replacements)
            )
    hidden, losses = zip(*passes)
    objective = chunked_objective(
        _keras.compiled_loss(model),
        model.rdrop,
        deferred.head,
        y,
        hidden,
        sample_weight,
        _alpha(model),
        mean_of(losses),
    )
    return objective, hidden[0]


def _alpha(model):
    iterations = 0 if model.optimizer is None else model.optimizer.iterations
    return model.rdrop.alpha_at(iterations)
