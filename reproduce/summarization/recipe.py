"""The flags that make a run of one of the paper's recipes."""

from __future__ import annotations

from typing import Any

from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of

# Fairseq's `max-source-positions` and `max-target-positions` of BART.
POSITIONS = 1024


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    recipe = recipe_of("summarization", name)
    optimizer, schedule = recipe.optimizer_settings, recipe.schedule
    batch, decoding = recipe.batch, recipe.decoding
    return {
        "alpha": recipe.alpha,
        "dropout": recipe.dropout.rate,
        "max_source_length": POSITIONS,
        "max_target_length": POSITIONS,
        "max_tokens": batch.tokens,
        "accumulate": accumulation(recipe),
        "learning_rate": schedule.learning_rate,
        "warm_up": schedule.warmup_updates,
        "power": schedule.power,
        "updates": schedule.total_updates,
        "weight_decay": optimizer.weight_decay,
        "clip_norm": optimizer.global_clipnorm,
        "summed_loss": True,
        "label_smoothing": recipe.label_smoothing,
        "validate_every": 1,
        "validate_on": 1000,
        "beam_size": decoding.beam_size,
        "length_penalty": decoding.length_penalty,
        "min_length": decoding.min_length,
        "max_length": decoding.max_length,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "vocabulary_chunk": "auto",
    }
