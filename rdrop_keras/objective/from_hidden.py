"""The objective of a vocabulary head that the passes left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.closed_form.heads import Head
from rdrop_keras.divergences.for_loss import divergence_for
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
    """Returns the loss and its parts without the logits of the batch.

    Args:
        compiled_loss: What `compile(loss=...)` made.
        settings: The compiled settings.
        head: What gives the logits.
        y: Class ids.
        hidden: What it gives them of, in each pass.
        sample_weight: Sample weights, as `fit` hands them over.
        alpha: What `RDrop.alpha_at` returned.
        additional: The mean over passes of what layers add to the loss.
    """
    if not compiled_loss.built:
        # No logits are at hand, and labels may exceed what stands for them.
        labels = keras.tree.map_structure(ops.zeros_like, y)
        logits = ops.zeros((*ops.shape(hidden[0])[:-1], 2))
        build_loss(compiled_loss, (labels, logits, None))
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
        # Keras's code, which multiplies the loss weight.
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
        # Its masks differ, which the hidden states do not show.
        return ()
    # Not the logits: equal rows need not give equal ones, to the last bit, at
    # different places of a product.
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
    if task_loss.from_logits == head.activated:
        raise ValueError(
            "Expected the loss to read what the head gives. Received: "
            f"from_logits={task_loss.from_logits} and a head "
            f"{'with' if head.activated else 'without'} a softmax."
        )
    head.check(fusion.label_smoothing, settings.dropout_rates)
    return {
        "label_smoothing": fusion.label_smoothing,
        "ignore_class": fusion.ignore_class,
        "reduction": task_loss.reduction,
        "stop_gradient": settings.stop_gradient,
    }
