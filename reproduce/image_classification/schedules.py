"""How the learning rate goes, and alpha with it."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.recipes import LinearWarmup

Schedule = keras.optimizers.schedules.LearningRateSchedule

# He et al. 2016 divide by ten at these shares of all updates.
STEPS = (0.5, 0.75)
SCHEDULES = ("cosine", "steps")


def learning_rate(
    kind: str, highest: float, updates: int, warm_up: int
) -> Schedule:
    """Returns a learning rate by the number of updates made.

    Args:
        kind: "cosine" falls to 0 along half a cosine, "steps" is divided by
            ten after half and after three quarters of all updates.
        highest: The learning rate after the warm-up.
        updates: How many updates there are.
        warm_up: In how many of them it rises from 0.
    """
    if kind not in SCHEDULES:
        raise ValueError(
            f"Expected a schedule out of {', '.join(SCHEDULES)}. Received: "
            f"{kind}."
        )
    if kind == "cosine":
        decay: Schedule = keras.optimizers.schedules.CosineDecay(
            highest, max(updates - warm_up, 1)
        )
    else:
        # Keras's own changes after its boundary, He et al.'s at it.
        edges = [round(share * updates) - warm_up - 1 for share in STEPS]
        decay = keras.optimizers.schedules.PiecewiseConstantDecay(
            edges, [highest, highest / 10, highest / 100]
        )
    return LinearWarmup(decay, warm_up)


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ProportionalAlpha(Schedule):
    """Alpha that rises and falls as the learning rate does.

    Args:
        alpha: What it is where the learning rate is highest.
        learning_rate: A schedule.
        highest: Its highest value.
    """

    def __init__(self, alpha: float, learning_rate: Schedule, highest: float):
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.highest = highest

    def __call__(self, step: Any) -> Any:
        return self.learning_rate(step) * (self.alpha / self.highest)

    def get_config(self) -> dict[str, Any]:
        return {
            "alpha": self.alpha,
            "learning_rate": keras.saving.serialize_keras_object(
                self.learning_rate
            ),
            "highest": self.highest,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProportionalAlpha:
        config = dict(config)
        rate = keras.saving.deserialize_keras_object(
            config.pop("learning_rate")
        )
        return cls(learning_rate=rate, **config)
