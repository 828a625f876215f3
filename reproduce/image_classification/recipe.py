"""The flags that make a run of one of the paper's recipes."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of
from reproduce.models.vit import SIZES


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    recipe = recipe_of("image_classification", name)
    model, optimizer = recipe.model, recipe.optimizer_settings
    schedule, batch = recipe.schedule, recipe.batch
    flags = {
        "alpha": recipe.alpha,
        "model": "vit",
        "configuration": _configuration(model),
        "patch_size": model.patch_size,
        "image_size": model.image_size,
        "dropout": recipe.dropout.rate,
        "attention_dropout": recipe.dropout.attention,
        "optimizer": optimizer.name,
        "momentum": optimizer.momentum,
        "weight_decay": optimizer.weight_decay,
        "clip_norm": optimizer.global_clipnorm,
        "schedule": schedule.kind,
        "learning_rate": schedule.learning_rate,
        "warm_up": schedule.warmup_updates,
        "updates": schedule.total_updates,
        "batch_size": batch.examples,
        "accumulate": accumulation(recipe),
        "summed_loss": True,
        "augment": "crop",
    }
    return {name: value for name, value in flags.items() if value is not None}


def _configuration(model: Any) -> str:
    sizes = (
        model.encoder_layers,
        model.hidden_size,
        model.feed_forward_size,
        model.attention_heads,
        model.patch_size,
    )
    return next(name for name, size in SIZES.items() if astuple(size) == sizes)
