"""The paper's recipes, selected by the flag `--recipe`."""

from __future__ import annotations

from typing import Any

from rdrop_keras import recipes
from reproduce.common.errors import InputError


def recipe_of(task: str, name: str) -> recipes.Recipe:
    """Returns the recipe of a task with this name, or names them all."""
    names = recipes.names(task)
    if name not in names:
        raise InputError(
            f"--recipe {name}: expected one of {', '.join(names)}."
        )
    return recipes.get(name)


def common_settings(recipe: recipes.Recipe) -> dict[str, Any]:
    """Returns the settings that recipes of several tasks state."""
    optimizer, schedule = recipe.optimizer_settings, recipe.schedule
    return {
        "alpha": recipe.alpha,
        "dropout": recipe.dropout.rate,
        "attention_dropout": recipe.dropout.attention,
        "activation_dropout": recipe.dropout.activation,
        "optimizer": optimizer.name,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "clip_norm": optimizer.global_clipnorm,
        "schedule": schedule.kind,
        "learning_rate": schedule.learning_rate,
        "warm_up": schedule.warmup_updates,
        "updates": schedule.total_updates,
        "accumulate": accumulation(recipe),
        "max_tokens": recipe.batch.tokens,
        "label_smoothing": recipe.label_smoothing,
        "summed_loss": True,
    }


def accumulation(recipe: recipes.Recipe) -> int:
    """Returns the number of batches to accumulate per update on one device.

    The paper distributed these batches over several devices.
    """
    batch = recipe.batch
    return (batch.gradient_accumulation_steps or 1) * (batch.devices or 1)
