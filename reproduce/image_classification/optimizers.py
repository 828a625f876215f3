"""The optimizer of a run, and the alpha that goes with its learning rate."""

from __future__ import annotations

import keras

from rdrop_keras.recipes import PerUpdate
from reproduce.image_classification.settings import Settings
from reproduce.schedules import ProportionalAlpha
from reproduce.schedules import Schedule
from reproduce.schedules import learning_rate

OPTIMIZERS = ("sgd", "adamw")
TWO_PASSES = ("two_pass", "rdrop")


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer.

    Args:
        settings: What a run depends on.
        updates: How many updates it makes.
    """
    times = 1.0
    if settings.summed_loss and settings.arm in TWO_PASSES:
        # The gradient of a mean is half that of the sum.
        times = 2.0
    # Adam divides by the size of the gradient, whatever it is.
    rate_times = times if settings.optimizer == "sgd" else 1.0
    options = {}
    if settings.clip_norm is not None:
        options["global_clipnorm"] = settings.clip_norm / times
    if settings.accumulate > 1:
        options["gradient_accumulation_steps"] = settings.accumulate
    # Keras's optimizers count batches here, and updates in `iterations`.
    rate = _rate(settings, updates, rate_times)
    if settings.accumulate > 1:
        rate = PerUpdate(rate, settings.accumulate)
    if settings.optimizer == "sgd":
        return keras.optimizers.SGD(
            rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay / times or None,
            **options,
        )
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=settings.weight_decay,
        **options,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def alpha_of(settings: Settings, updates: int) -> float | Schedule:
    """Returns alpha: a number, or a schedule if it goes as the learning rate.

    Args:
        settings: What a run depends on.
        updates: How many updates it makes.
    """
    if not settings.decay_alpha:
        return settings.alpha
    rate = _rate(settings, updates, 1.0)
    return ProportionalAlpha(settings.alpha, rate, settings.learning_rate)


def _rate(settings: Settings, updates: int, times: float) -> Schedule:
    highest = settings.learning_rate * times
    return learning_rate(settings.schedule, highest, updates, settings.warm_up)
