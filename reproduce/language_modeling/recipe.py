"""The flags that make a run of one of the paper's recipes."""

from __future__ import annotations

from typing import Any

from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of

RECIPE_MODELS = {
    "transformer_lm_gpt": "gpt",
    "transformer_lm_wiki103": "wiki103",
}


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    recipe = recipe_of("language_modeling", name)
    optimizer, schedule = recipe.optimizer_settings, recipe.schedule
    dropout, batch = recipe.dropout, recipe.batch
    flags = {
        "alpha": recipe.alpha,
        "configuration": RECIPE_MODELS[recipe.model.name],
        "dropout": dropout.rate,
        "attention_dropout": dropout.attention,
        "activation_dropout": dropout.activation,
        "softmax_dropout": dropout.adaptive_softmax,
        "vocabulary": recipe.vocabulary.kind,
        "cutoffs": recipe.vocabulary.adaptive_cutoffs,
        "block_size": batch.sequence_length,
        "batch_size": max(batch.tokens // batch.sequence_length, 1),
        "accumulate": accumulation(recipe),
        "optimizer": optimizer.name,
        "schedule": schedule.kind,
        "learning_rate": schedule.learning_rate,
        "initial_learning_rate": schedule.initial_learning_rate,
        "end_learning_rate": schedule.end_learning_rate,
        "warm_up": schedule.warmup_updates,
        "updates": schedule.total_updates,
        "weight_decay": optimizer.weight_decay,
        "momentum": optimizer.momentum,
        "clip_norm": optimizer.global_clipnorm,
        "summed_loss": True,
        "context_window": recipe.decoding.context_window,
        "vocabulary_chunk": "auto",
    }
    found = {k: v for k, v in flags.items() if v is not None}
    # All words, for which there is no number.
    return found | {"vocabulary_size": None}
