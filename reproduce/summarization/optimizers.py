"""Adam as fairseq fine-tunes BART with it."""

from __future__ import annotations

import keras

from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from reproduce.common.errors import InputError
from reproduce.summarization.settings import TWO_PASSES
from reproduce.summarization.settings import Settings

EPSILON = 1e-8


def optimizer_of(settings: Settings, updates: int) -> keras.optimizers.Adam:
    """Returns a new optimizer with its schedule.

    Args:
        settings: How to train.
        updates: How many updates the run has, at which the learning rate is 0
            if the settings do not say when.

    Raises:
        InputError: If the warm-up leaves no update to the decay.
    """
    updates = settings.updates or updates
    if settings.warm_up >= updates:
        raise InputError(
            f"--warm-up {settings.warm_up}: expected fewer than the {updates} "
            "updates of the run. Lower it, or train for longer."
        )
    rate = LinearWarmup(
        keras.optimizers.schedules.PolynomialDecay(
            settings.learning_rate,
            updates - settings.warm_up,
            0.0,
            settings.power,
        ),
        settings.warm_up,
    )
    accumulate = None
    if settings.accumulate > 1:
        accumulate = settings.accumulate
        rate = PerUpdate(rate, accumulate)
    times = 1.0
    if settings.summed_loss and settings.arm in TWO_PASSES:
        times = 2.0
    return keras.optimizers.Adam(
        rate,
        epsilon=EPSILON / times,
        weight_decay=settings.weight_decay or None,
        global_clipnorm=settings.clip_norm and settings.clip_norm / times,
        gradient_accumulation_steps=accumulate,
    )
