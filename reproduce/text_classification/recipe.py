"""The flags that make a run of one of the paper's recipes."""

from __future__ import annotations

from typing import Any

from reproduce.common.recipes import recipe_of


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    recipe = recipe_of("language_understanding", name)
    return {
        "glue_task": name.split("_")[1],
        "alpha": recipe.alpha,
        "dropout": recipe.dropout.rate,
        "batch_size": recipe.batch.per_update,
        "learning_rate": recipe.schedule.learning_rate,
        "warm_up": recipe.schedule.warmup_updates,
        "updates": recipe.schedule.total_updates,
        "schedule": "linear",
    }
