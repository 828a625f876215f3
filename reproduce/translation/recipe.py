"""The flags that make a run of one of the paper's recipes."""

from __future__ import annotations

from typing import Any

from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    recipe = recipe_of("translation", name)
    _, source, target = name.split("_")
    optimizer, schedule = recipe.optimizer_settings, recipe.schedule
    dropout, batch = recipe.dropout, recipe.batch
    flags = {
        "alpha": recipe.alpha,
        "source_language": source,
        "target_language": target,
        "configuration": "iwslt" if name.startswith("iwslt") else "big",
        "dropout": dropout.rate,
        "attention_dropout": dropout.attention,
        "activation_dropout": dropout.activation,
        "vocabulary_size": recipe.vocabulary.size,
        "separate_vocabularies": recipe.vocabulary.joint is False,
        "max_tokens": batch.tokens,
        "accumulate": accumulation(recipe),
        "learning_rate": schedule.learning_rate,
        "warm_up": schedule.warmup_updates,
        "updates": schedule.total_updates,
        "weight_decay": optimizer.weight_decay,
        "label_smoothing": recipe.label_smoothing,
        "beam_size": recipe.decoding.beam_size,
        "length_penalty": recipe.decoding.length_penalty,
        "max_ratio": 1.5,
    }
    return {name: value for name, value in flags.items() if value is not None}
