"""One line about what R-Drop will do with a model, and why."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.fusion import fusion_for
from rdrop_keras.passes import way_for
from rdrop_keras.rdrop import ZERO_WEIGHT
from rdrop_keras.rdrop import RDrop
from rdrop_keras.training.checks import is_from_keras


def plan(model: Any) -> str:
    """Returns the text of `model.rdrop_plan()`.

    Args:
        model: A compiled `RDropMixin` model.
    """
    settings = model.rdrop
    if settings is None:
        return "plain Keras training: one pass, since rdrop=None"
    parts = [_passes(model, settings), _alpha(settings)]
    parts += dict.fromkeys(_divergences(model, settings))
    if settings.unlabeled is not None:
        which = f"class {settings.unlabeled}"
        if settings.unlabeled == ZERO_WEIGHT:
            which = "sample weight 0"
        weight = settings.unlabeled_weight
        at = "" if weight == 1.0 else f", at weight {weight:g}"
        parts.append(f"unlabeled items ({which}) by consistency alone{at}")
    if settings.vocabulary_chunk == "auto":
        parts.append("logits of as many items as fit into 32 MiB at a time")
    elif settings.vocabulary_chunk is not None:
        parts.append(f"logits of {settings.vocabulary_chunk} items at a time")
    return "; ".join(parts)


def _passes(model: Any, settings: RDrop) -> str:
    observation = model._rdrop_observation
    way = way_for(model, settings.passes, observation)
    how = way.describe(model, observation)
    if (
        settings.passes == "auto"
        and observation is None
        and _keras.graph_of(model) is None
    ):
        how += ", unless the first batch shows something to share"
    text = f"{settings.num_passes} passes as {how}"
    if settings.every > 1:
        text += f" at every {settings.every}th update, one at the others"
    if settings.dropout_rates is not None:
        rates = ", ".join(f"{rate:g}" for rate in settings.dropout_rates)
        text += f", at dropout rates {rates}"
    return text


def _alpha(settings: RDrop) -> str:
    def told(alpha):
        by_schedule = f"by {type(alpha).__name__}"
        return f"{alpha:g}" if isinstance(alpha, float) else by_schedule

    alpha = settings.alpha
    if alpha == 0.0:
        return "alpha 0: the passes are averaged, nothing is made to agree"
    text = told(alpha)
    if isinstance(alpha, dict):
        text = ", ".join(f"{name}: {told(a)}" for name, a in alpha.items())
    return f"alpha {text}{', constant targets' * settings.stop_gradient}"


def _divergences(model: Any, settings: RDrop) -> list[str]:
    loss = model.loss
    if loss is None:
        return [_described(divergence_for(None, settings.divergence))]
    entries = keras.tree.flatten(loss)
    names = getattr(model, "output_names", None)
    if isinstance(loss, dict) and len(loss) == len(entries):
        names, entries = zip(*loss.items())
    elif names is None or len(names) != len(entries):
        names = [None] * len(entries)
    together = settings.fused and is_from_keras(model.compute_loss)
    found = []
    for name, entry in zip(names, entries):
        if entry is None:
            continue
        if str(entry).lower() in ("crossentropy", "ce"):
            found.append("divergence by the shape of outputs and targets")
            continue
        task_loss = keras.losses.get(entry)
        divergence = divergence_for(
            task_loss, of_output(settings.divergence, name, "auto")
        )
        kind = getattr(
            task_loss, "name", getattr(task_loss, "__name__", "loss")
        )
        text = f"{_described(divergence)}, beside {kind}"
        if together and fusion_for(task_loss, divergence) is not None:
            text += ", in closed form"
            if not divergence.from_logits:
                text += " where a softmax gives them"
        found.append(text)
    return found


def _described(divergence: Any) -> str:
    if not isinstance(divergence, DistributionDivergence):
        return divergence.name
    kind = "logits" if divergence.from_logits else "probabilities"
    return f"{divergence.name} of {kind}"
