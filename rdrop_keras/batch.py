"""From one batch to its loss: the passes, and what is made of them."""

from __future__ import annotations

from typing import Any

from rdrop_keras import _keras
from rdrop_keras import checks
from rdrop_keras.objective import additional_losses
from rdrop_keras.objective import compare_with_loss
from rdrop_keras.objective import loss_of_pass
from rdrop_keras.objective import measure_consistency
from rdrop_keras.parts import Objective
from rdrop_keras.parts import combine
from rdrop_keras.parts import mean_of
from rdrop_keras.parts import plain_objective
from rdrop_keras.passes import run_passes
from rdrop_keras.vocabulary import chunked_objective
from rdrop_keras.vocabulary import deferring


def compute_objective(
    model: Any, x: Any, y: Any, sample_weight: Any
) -> tuple[Objective, Any]:
    """Makes the passes that the model is compiled with.

    Args:
        model: A compiled `RDropMixin` model.
        x: Inputs, of any structure.
        y: Targets, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.

    Returns:
        The `Objective`, and the outputs of the first pass; the input of the
        last layer in their place with `RDrop(vocabulary_chunk=...)`.
    """
    settings = model.rdrop
    checks.check_not_float8(model)
    if settings.vocabulary_chunk is not None:
        return _in_chunks(model, x, y, sample_weight)
    compiled_loss = _keras.compiled_loss(model)
    # What an override makes of an output is not ours to rewrite.
    together = (
        settings.fused
        and compiled_loss is not None
        and checks.is_from_keras(model.compute_loss)
    )
    outputs, losses = [], []
    for output in run_passes(model, x, settings):
        losses.append(
            additional_losses(model)
            if together
            else loss_of_pass(model, x, y, output, sample_weight)
        )
        outputs.append(output)
    task_loss = mean_of(losses)
    batch = (compiled_loss, settings, y, outputs, sample_weight, _alpha(model))
    if together:
        compiled, consistency = compare_with_loss(*batch)
        task_loss = task_loss + compiled
    else:
        consistency = measure_consistency(*batch)
    return combine(task_loss, consistency, len(outputs)), outputs[0]


def compute_plain_objective(
    model: Any, x: Any, y: Any, sample_weight: Any
) -> tuple[Objective, Any]:
    """Makes one pass, as plain training does.

    Args:
        model: A compiled `RDropMixin` model.
        x: Inputs, of any structure.
        y: Targets, of any structure.
        sample_weight: Sample weights, as `fit` hands them over.

    Returns:
        The `Objective`, and the outputs.
    """
    y_pred = model(x, training=True)
    loss = loss_of_pass(model, x, y, y_pred, sample_weight)
    return plain_objective(loss), y_pred


def _in_chunks(model, x, y, sample_weight):
    checks.check_chunks(model)
    if not model.built:
        # Else the first pass builds it, by a call without its head.
        model(x, training=False)
    hidden, losses = [], []
    with deferring(model) as deferred:
        for output in run_passes(model, x, model.rdrop):
            losses.append(additional_losses(model))
            hidden.append(deferred.hidden_of(output))
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
