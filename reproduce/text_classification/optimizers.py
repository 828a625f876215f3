"""Optimizers, and how their learning rate goes."""

from __future__ import annotations

import keras

from rdrop_keras import recipes
from reproduce.common.errors import InputError
from reproduce.text_classification.settings import Settings

SCHEDULES = {
    "cosine": "decay along a cosine to 0",
    "linear": "linear decay to 0, as BERT is fine-tuned",
}
# The share of all updates in which the learning rate rises.
WARM_UP = 0.05
WEIGHT_DECAY = 0.01
UNDECAYED = ["bias", "gamma", "beta"]


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer with its schedule.

    Args:
        settings: How to train. A recipe gives the optimizer with clipping and
            weight decay; its learning rate, warm-up and updates are those of
            the settings.
        updates: How many updates the run has.

    Raises:
        InputError: If the warm-up leaves no update to the decay.
    """
    warm_up = settings.warm_up
    if warm_up is None:
        warm_up = int(WARM_UP * updates)
    elif warm_up >= updates:
        raise InputError(
            f"--warm-up {warm_up}: expected fewer than the {updates} updates "
            "of the run. Lower it, or train for longer."
        )
    if settings.recipe is not None:
        recipe = recipes.get(settings.recipe).replace(
            schedule={
                "learning_rate": settings.learning_rate,
                "warmup_updates": warm_up,
                "total_updates": updates,
            }
        )
        # What the paper sums over two passes, those two arms average.
        return recipe.optimizer(
            summed_loss=settings.arm in ("two_pass", "rdrop")
        )
    optimizer = keras.optimizers.AdamW(
        _schedule(settings, warm_up, max(updates - warm_up, 1)),
        weight_decay=WEIGHT_DECAY,
    )
    optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return optimizer


def _schedule(
    settings: Settings, warm_up: int, decay: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    schedules = keras.optimizers.schedules
    if settings.schedule == "linear":
        return recipes.LinearWarmup(
            schedules.PolynomialDecay(settings.learning_rate, decay, 0.0),
            warm_up,
        )
    return schedules.CosineDecay(
        0.0,
        decay_steps=decay,
        warmup_target=settings.learning_rate,
        warmup_steps=warm_up,
    )
