"""The optimizer of a run."""

from __future__ import annotations

import keras

from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from reproduce.language_modeling.settings import Settings

TWO_PASSES = ("two_pass", "rdrop")

Schedule = keras.optimizers.schedules.LearningRateSchedule


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
    options = {}
    if settings.clip_norm is not None:
        options["global_clipnorm"] = settings.clip_norm / times
    # Adam divides by the size of the gradient, whatever it is.
    rate = learning_rate(
        settings, updates, times if settings.optimizer == "nesterov" else 1.0
    )
    if settings.accumulate > 1:
        options["gradient_accumulation_steps"] = settings.accumulate
        rate = PerUpdate(rate, settings.accumulate)
    if settings.optimizer == "nesterov":
        # Keras's decay is weight_decay * learning rate.
        return keras.optimizers.SGD(
            rate,
            momentum=settings.momentum,
            nesterov=True,
            weight_decay=settings.weight_decay / times or None,
            **options,
        )
    beta_1, beta_2 = settings.betas
    return keras.optimizers.Adam(
        rate,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=settings.epsilon / times,
        weight_decay=settings.weight_decay or None,
        **options,
    )


def learning_rate(settings: Settings, updates: int, times: float) -> Schedule:
    """Returns the learning rate by the number of updates made.

    Args:
        settings: What a run depends on.
        updates: How many updates it makes.
        times: What all rates are multiplied by.
    """
    highest = settings.learning_rate * times
    initial = settings.initial_learning_rate * times
    if settings.schedule == "inverse_square_root":
        return InverseSquareRoot(highest, settings.warm_up, initial)
    decay = keras.optimizers.schedules.CosineDecay(
        highest,
        # A run that is not longer than its warm-up ends in it.
        max(updates - settings.warm_up, 1),
        settings.end_learning_rate / settings.learning_rate,
    )
    return LinearWarmup(decay, settings.warm_up, initial)
