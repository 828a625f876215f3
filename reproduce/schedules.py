"""Learning rate schedules, an alpha proportional to them, and optimizers."""

from __future__ import annotations

from typing import Any

import keras

from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from reproduce.common.arms import TWO_PASSES
from reproduce.common.errors import InputError

Schedule = keras.optimizers.schedules.LearningRateSchedule

# To 0 along half a cosine, to 0 along a line, by ten at each of `STEPS`.
SCHEDULES = ("cosine", "linear", "steps")
# He et al. 2016 divide the learning rate by ten at these shares of updates.
STEPS = (0.5, 0.75)
# The default warm-up, as a share of all updates.
WARM_UP = 0.05


def learning_rate(
    kind: str, highest: float, updates: int, warm_up: int | None = None
) -> Schedule:
    """Returns a schedule that rises from 0 to `highest`, then decays.

    It rises in `warm_up` of all updates, by default a twentieth. The decay is
    one of `SCHEDULES`.
    """
    if kind not in SCHEDULES:
        raise ValueError(
            f"Expected a schedule out of {', '.join(SCHEDULES)}. Received: "
            f"{kind}."
        )
    if warm_up is None:
        warm_up = int(WARM_UP * updates)
    schedules = keras.optimizers.schedules
    left = max(updates - warm_up, 1)
    if kind == "cosine":
        decay: Schedule = schedules.CosineDecay(highest, left)
    elif kind == "linear":
        decay = schedules.PolynomialDecay(highest, left, 0.0)
    else:
        # Keras changes the value one step after a boundary.
        edges = [round(share * updates) - warm_up - 1 for share in STEPS]
        values = [highest, highest / 10, highest / 100]
        decay = schedules.PiecewiseConstantDecay(edges, values)
    return LinearWarmup(decay, warm_up)


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ProportionalAlpha(Schedule):
    """An alpha proportional to a learning rate, `alpha` at its highest."""

    def __init__(self, alpha: float, learning_rate: Schedule, highest: float):
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.highest = highest

    def __call__(self, step: Any) -> Any:
        return self.learning_rate(step) * (self.alpha / self.highest)

    def get_config(self) -> dict[str, Any]:
        rate = keras.saving.serialize_keras_object(self.learning_rate)
        return {
            "alpha": self.alpha,
            "learning_rate": rate,
            "highest": self.highest,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> ProportionalAlpha:
        rate = keras.saving.deserialize_keras_object(config["learning_rate"])
        return cls(**{**config, "learning_rate": rate})


def times_of(settings: Any) -> float:
    """Returns the ratio of the paper's loss, a sum over passes, to our mean."""
    return 2.0 if settings.summed_loss and settings.arm in TWO_PASSES else 1.0


def optimizer_of(
    name: str,
    rate: Schedule,
    accumulate: int = 1,
    weight_decay: float = 0.0,
    clip_norm: float | None = None,
    times: float = 1.0,
    **options: Any,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer that makes the updates of the paper's loss.

    Args:
        name: "sgd", "nesterov", "adam" or "adamw".
        rate: The learning rate by update. Unlike Adam, SGD depends on the
            scale of the loss, so that it needs `times` the paper's rate.
        accumulate: The number of batches in an update.
        weight_decay: The decoupled weight decay.
        clip_norm: The largest norm of the paper's gradient. 0 or None: any.
        times: The result of `times_of`.
        **options: Other arguments of the optimizer; `epsilon` is the paper's.
    """
    if clip_norm:
        options["global_clipnorm"] = clip_norm / times
    if accumulate > 1:
        options["gradient_accumulation_steps"] = accumulate
        # Keras calls a schedule with the number of batches, not updates.
        rate = PerUpdate(rate, accumulate)
    if name in ("sgd", "nesterov"):
        return keras.optimizers.SGD(
            rate,
            # Keras's decay is weight_decay * learning rate.
            weight_decay=weight_decay / times or None,
            nesterov=name == "nesterov",
            **options,
        )
    if "epsilon" in options:
        options["epsilon"] /= times
    if name == "adam":
        decay = weight_decay or None
        return keras.optimizers.Adam(rate, weight_decay=decay, **options)
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=weight_decay, **options
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def check_warm_up(warm_up: int | None, updates: int) -> None:
    """Raises `InputError` if the warm-up leaves no updates for the decay."""
    if warm_up is not None and warm_up >= updates:
        raise InputError(
            f"--warm-up {warm_up}: expected fewer than the {updates} updates "
            "of the run. Lower it, or train for longer."
        )
