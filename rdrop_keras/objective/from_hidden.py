"""The objective of a vocabulary head, computed from the head's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.closed_form.heads import Head
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.divergences.for_loss import reads_logits
from rdrop_keras.divergences.reduction import common_mask
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.entries import build_loss
from rdrop_keras.objective.fusion import fusion_for
from rdrop_keras.objective.one_output import Comparison
from rdrop_keras.objective.result import Consistency
from rdrop_keras.objective.result import Objective
from rdrop_keras.objective.result import Tokens
from rdrop_keras.rdrop import RDrop

ops = keras.ops


def chunked_objective(
    compiled_loss: Any,
    settings: RDrop,
    head: Head,
    y: Any,
    hidden: Sequence[Any],
    sample_weight: Any,
    alpha: Any,
    additional: Any,
) -> Objective:
    """Returns the objective without holding the logits of the whole batch.

    Args:
        compiled_loss: The object made by `compile(loss=...)`.
        settings: The compiled settings.
        head: The vocabulary head.
        y: Class ids.
        hidden: The input of the head in each pass.
        sample_weight: The sample weights, as passed to `fit`.
        alpha: The result of `RDrop.alpha_at`.
        additional: The mean over the passes of the losses added by layers.
    """
    if not compiled_loss.built:
        # Two classes stand in for the logits, so the labels must be 0 as well.
        labels = keras.tree.map_structure(ops.zeros_like, y)
        logits = ops.zeros((*ops.shape(hidden[0])[:-1], 2))
        build_loss(compiled_loss, labels, logits)
    entry, *_ = _keras.loss_entries(compiled_loss, y, hidden[0], sample_weight)
    weight = alpha[entry.name] if isinstance(alpha, dict) else alpha
    result = head.loss(
        entry.y_true,
        hidden,
        weight,
        sample_weight=entry.sample_weight,
        chunk_size=settings.vocabulary_chunk,
        **_options(entry.loss, entry.name, settings, head),
    )

    def weighted(value):
        # Keras's code applies the loss weight.
        return _keras.weighted_sum_of_losses(
            compiled_loss, [value], y, hidden[0], sample_weight
        )

    loss, task_loss = weighted(result.loss), weighted(result.task_loss)
    consistency = Consistency(
        value=weighted(result.consistency),
        weighted=(loss - task_loss) * len(hidden),
        by_output={},
        compared=_compared(hidden, head),
    )
    return Objective(
        loss + additional,
        task_loss + additional,
        consistency,
        ops.ones((), "float32"),
        Tokens(result.correct, result.nll, result.count),
    )


def _compared(hidden, head):
    if head.draws:
        # Dropout inside the head makes passes differ even if its inputs agree.
        return ()
    # Inputs rather than logits: in a matrix product, equal rows at different
    # positions may give results that differ in the last bit.
    mask = common_mask(hidden)
    return (Comparison("logits", None, hidden, None, mask, None),)


def _options(
    task_loss: Any,
    name: str,
    settings: RDrop,
    head: Head,
) -> dict[str, Any]:
    kind = of_output(settings.divergence, name, "auto")
    fusion = fusion_for(task_loss, divergence_for(task_loss, kind))
    from_logits = reads_logits(task_loss)
    if from_logits == head.activated:
        raise ValueError(
            "Expected the `from_logits` of the loss to match the vocabulary "
            f"head. Received: from_logits={from_logits} and a head "
            f"{'with' if head.activated else 'without'} a softmax."
        )
    head.check(fusion.label_smoothing, settings.dropout_rates)
    return {
        "label_smoothing": fusion.label_smoothing,
        "ignore_class": fusion.ignore_class,
        "reduction": task_loss.reduction,
        "stop_gradient": settings.stop_gradient,
    }
