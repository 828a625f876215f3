"""One line about what R-Drop will do with a model, and why."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.losses.divergence import DistributionDivergence
from rdrop_keras.losses.inference import divergence_for
from rdrop_keras.rdrop import RDrop


def plan(model: Any) -> str:
    """Returns what `model.rdrop_plan()` shows.

    Args:
        model: A compiled `RDropMixin` model.
    """
    settings = model.rdrop
    if settings is None:
        return "plain Keras training: one pass, since rdrop=None"
    return "; ".join(
        [
            _passes(settings),
            _alpha(settings),
            *_divergences(model.loss, settings),
        ]
    )


def _passes(settings: RDrop) -> str:
    how = "separate calls"
    if settings.passes == "concat":
        how = "one call on the repeated batch"
    text = f"{settings.num_passes} passes as {how}"
    if settings.every > 1:
        text += f" at every {settings.every}th update, one at the others"
    if settings.dropout_rates is not None:
        rates = ", ".join(f"{rate:g}" for rate in settings.dropout_rates)
        text += f", at dropout rates {rates}"
    return text


def _alpha(settings: RDrop) -> str:
    if not isinstance(settings.alpha, float):
        return f"alpha by {type(settings.alpha).__name__}"
    if settings.alpha == 0.0:
        return "alpha 0: the passes are averaged, nothing is made to agree"
    side = ", constant targets" if settings.stop_gradient else ""
    return f"alpha {settings.alpha:g}{side}"


def _divergences(loss: Any, settings: RDrop) -> list[str]:
    if loss is None:
        return [_describe(divergence_for(None, settings.divergence), None)]
    found = []
    for entry in keras.tree.flatten(loss):
        if entry is None:
            continue
        if str(entry).lower() in ("crossentropy", "ce"):
            found.append("divergence by the shape of outputs and targets")
            continue
        task_loss = keras.losses.get(entry)
        divergence = divergence_for(task_loss, settings.divergence)
        found.append(_describe(divergence, task_loss))
    return list(dict.fromkeys(found))


def _describe(divergence: Any, task_loss: Any) -> str:
    text = divergence.name
    if isinstance(divergence, DistributionDivergence):
        kind = "logits" if divergence.from_logits else "probabilities"
        text += f" of {kind}"
    if task_loss is None:
        return text
    name = getattr(task_loss, "name", getattr(task_loss, "__name__", "loss"))
    return f"{text}, beside {name}"
