"""One line about what R-Drop will do with a model, and why."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.divergences.base import DistributionDivergence
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.objective.by_output import of_output
from rdrop_keras.objective.fusion import fusion_for
from rdrop_keras.passes import choose
from rdrop_keras.passes import is_undecided
from rdrop_keras.passes.shared_prefix import cut
from rdrop_keras.rdrop import ZERO_WEIGHT
from rdrop_keras.rdrop import RDrop
from rdrop_keras.training.checks import is_from_keras


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
            _passes(model, settings),
            _alpha(settings),
            *_divergences(model, settings),
            *_unlabeled(settings),
            *_vocabulary(settings),
        ]
    )


def _passes(model: Any, settings: RDrop) -> str:
    chosen = choose(model, settings.passes, model._rdrop_observation)
    how = "separate calls"
    if settings.passes == "auto" and is_undecided(model):
        how += ", unless the built model shares a prefix"
    elif chosen == "concat":
        how = "one call on the repeated batch"
    elif chosen == "shared_prefix":
        how = _shared(model)
    text = f"{settings.num_passes} passes as {how}"
    if settings.every > 1:
        text += f" at every {settings.every}th update, one at the others"
    if settings.dropout_rates is not None:
        rates = ", ".join(f"{rate:g}" for rate in settings.dropout_rates)
        text += f", at dropout rates {rates}"
    return text


def _shared(model: Any) -> str:
    observation = model._rdrop_observation
    found = cut(model, observation.drawing if observation else ())
    if found is None:
        return "separate calls that share what `compute_once` computes"
    return (
        f"separate runs from {', '.join(found.frontier)} on, what comes before "
        f"once; first stochastic layer: {found.stochastic}"
    )


def _alpha(settings: RDrop) -> str:
    if settings.alpha == 0.0:
        return "alpha 0: the passes are averaged, nothing is made to agree"
    side = ", constant targets" if settings.stop_gradient else ""
    if isinstance(settings.alpha, dict):
        each = (f"{k}: {_one_alpha(a)}" for k, a in settings.alpha.items())
        return f"alpha {', '.join(each)}{side}"
    return f"alpha {_one_alpha(settings.alpha)}{side}"


def _one_alpha(alpha: Any) -> str:
    if isinstance(alpha, float):
        return f"{alpha:g}"
    return f"by {type(alpha).__name__}"


def _divergences(model: Any, settings: RDrop) -> list[str]:
    loss = model.loss
    if loss is None:
        return [_describe(divergence_for(None, settings.divergence))]
    together = settings.fused and is_from_keras(model.compute_loss)
    found = []
    for name, entry in _named(loss, getattr(model, "output_names", None)):
        if entry is None:
            continue
        if str(entry).lower() in ("crossentropy", "ce"):
            found.append("divergence by the shape of outputs and targets")
            continue
        task_loss = keras.losses.get(entry)
        kind = of_output(settings.divergence, name, "auto")
        divergence = divergence_for(task_loss, kind)
        found.append(
            f"{_describe(divergence)}, beside {_name(task_loss)}"
            f"{_closed_form(task_loss, divergence) if together else ''}"
        )
    return list(dict.fromkeys(found))


def _named(loss: Any, output_names: Any) -> list[tuple[str | None, Any]]:
    entries = keras.tree.flatten(loss)
    if isinstance(loss, dict) and len(loss) == len(entries):
        return list(loss.items())
    if output_names is not None and len(output_names) == len(entries):
        return list(zip(output_names, entries))
    return [(None, entry) for entry in entries]


def _unlabeled(settings: RDrop) -> list[str]:
    if settings.unlabeled is None:
        return []
    which = f"class {settings.unlabeled}"
    if settings.unlabeled == ZERO_WEIGHT:
        which = "sample weight 0"
    weight = ""
    if settings.unlabeled_weight != 1.0:
        weight = f", at weight {settings.unlabeled_weight:g}"
    return [f"unlabeled items ({which}) by consistency alone{weight}"]


def _vocabulary(settings: RDrop) -> list[str]:
    if settings.vocabulary_chunk is None:
        return []
    size = f"{settings.vocabulary_chunk} items"
    if settings.vocabulary_chunk == "auto":
        size = "as many items as fit into 32 MiB"
    return [f"logits of {size} at a time"]


def _closed_form(task_loss: Any, divergence: Any) -> str:
    if fusion_for(task_loss, divergence) is None:
        return ""
    if divergence.from_logits:
        return ", in closed form"
    return ", in closed form where a softmax gives them"


def _name(task_loss: Any) -> str:
    return getattr(task_loss, "name", getattr(task_loss, "__name__", "loss"))


def _describe(divergence: Any) -> str:
    text = divergence.name
    if isinstance(divergence, DistributionDivergence):
        kind = "logits" if divergence.from_logits else "probabilities"
        text += f" of {kind}"
    return text
