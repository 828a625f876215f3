"""Learning rate schedules of the paper's recipes that Keras lacks.

A step is the number of updates made so far: Keras's `optimizer.iterations`
and fairseq's `num_updates` both. So the first update is made with the value at
0 and update t with that at t - 1, here as in fairseq's trainer.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from rdrop_keras.arguments import Schedule
from rdrop_keras.arguments import check_number
from rdrop_keras.arguments import check_whole


@keras.saving.register_keras_serializable(package="rdrop_keras")
class InverseSquareRoot(Schedule):
    """Linear warm-up, then decay by the inverse square root of the step.

    With step t and w warm-up updates:

        initial + (learning_rate - initial) * t / w     for t < w
        learning_rate * sqrt(w) / sqrt(t)               from w on

    This is fairseq's `inverse_sqrt`, value for value. The translation models
    of the paper are trained with it.

    Args:
        learning_rate: The highest learning rate, reached at step
            `warmup_updates`.
        warmup_updates: The length of the warm-up, at least 1: without one the
            decay has no finite start.
        initial_learning_rate: The learning rate at step 0. The authors'
            scripts set 1e-7, fairseq's default is 0.

    Example:

    >>> schedule = rdrop_keras.recipes.InverseSquareRoot(5e-4, 4000)
    >>> [f"{float(schedule(step)):.6f}" for step in (0, 2000, 4000, 16000)]
    ['0.000000', '0.000250', '0.000500', '0.000250']

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), appendix A.1.
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_updates: int = 4000,
        initial_learning_rate: float = 0.0,
    ):
        check_number("learning_rate", learning_rate)
        check_whole("warmup_updates", warmup_updates, least=1)
        check_number("initial_learning_rate", initial_learning_rate)
        self.learning_rate = float(learning_rate)
        self.warmup_updates = int(warmup_updates)
        self.initial_learning_rate = float(initial_learning_rate)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, _dtype())
        growth = self.learning_rate - self.initial_learning_rate
        rising = self.initial_learning_rate + growth * (
            step / self.warmup_updates
        )
        # The maximum keeps the branch not taken finite at step 0.
        falling = (
            self.learning_rate
            * math.sqrt(self.warmup_updates)
            * ops.rsqrt(ops.maximum(step, 1.0))
        )
        return ops.where(step < self.warmup_updates, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "warmup_updates": self.warmup_updates,
            "initial_learning_rate": self.initial_learning_rate,
        }


@keras.saving.register_keras_serializable(package="rdrop_keras")
class LinearWarmup(Schedule):
    """A linear warm-up before any other schedule.

    The warm-up leads to the first value of `decay`, which then runs from its
    own step 0. Around `keras.optimizers.schedules.PolynomialDecay` it is
    `polynomial_decay` of fairseq and of HF Transformers.

    Args:
        decay: What follows the warm-up: a
            `keras.optimizers.schedules.LearningRateSchedule`, or a number for
            a learning rate that stays.
        warmup_updates: The length of the warm-up; 0 for none.
        initial_learning_rate: The learning rate at step 0.

    Example:

    >>> decay = keras.optimizers.schedules.PolynomialDecay(3e-5, 19500, 0.0)
    >>> schedule = rdrop_keras.recipes.LinearWarmup(decay, 500)
    >>> [f"{float(schedule(step)):.7f}" for step in (250, 500, 10250, 20000)]
    ['0.0000150', '0.0000300', '0.0000150', '0.0000000']

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), appendix A.2.
    """

    def __init__(
        self,
        decay: float | Schedule,
        warmup_updates: int,
        initial_learning_rate: float = 0.0,
    ):
        if not isinstance(decay, Schedule):
            check_number("decay", decay, "Or a learning rate schedule.")
        check_whole("warmup_updates", warmup_updates, least=0)
        check_number("initial_learning_rate", initial_learning_rate)
        self.decay = decay
        self.warmup_updates = int(warmup_updates)
        self.initial_learning_rate = float(initial_learning_rate)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, _dtype())
        after = ops.maximum(step - self.warmup_updates, 0.0)
        falling = _value(self.decay, after)
        if self.warmup_updates == 0:
            return falling
        growth = _value(self.decay, 0) - self.initial_learning_rate
        rising = self.initial_learning_rate + growth * (
            step / self.warmup_updates
        )
        return ops.where(step < self.warmup_updates, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "decay": keras.saving.serialize_keras_object(self.decay),
            "warmup_updates": self.warmup_updates,
            "initial_learning_rate": self.initial_learning_rate,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearWarmup:
        return cls(**_with_object(config, "decay"))


@keras.saving.register_keras_serializable(package="rdrop_keras")
class PerUpdate(Schedule):
    """Counts a schedule by updates where gradients are accumulated.

    Keras hands a schedule the number of batches, not of updates, when the
    optimizer has `gradient_accumulation_steps`: warm-up and decay would be
    over that many times too early. This divides first.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule` that
            counts updates.
        gradient_accumulation_steps: The optimizer's, at least 1.

    Example:

    >>> schedule = rdrop_keras.recipes.InverseSquareRoot(1e-3, 6000)
    >>> optimizer = keras.optimizers.Adam(
    ...     rdrop_keras.recipes.PerUpdate(schedule, 16),
    ...     gradient_accumulation_steps=16,
    ... )

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), appendix A.1:
        the WMT14 models accumulate 16 batches.
    """

    def __init__(self, schedule: Schedule, gradient_accumulation_steps: int):
        if not isinstance(schedule, Schedule):
            raise TypeError(
                "Expected `schedule` to be a "
                "`keras.optimizers.schedules.LearningRateSchedule`. Received: "
                f"schedule={schedule!r}."
            )
        check_whole(
            "gradient_accumulation_steps", gradient_accumulation_steps, least=1
        )
        self.schedule = schedule
        self.gradient_accumulation_steps = int(gradient_accumulation_steps)

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "int64")
        return self.schedule(step // self.gradient_accumulation_steps)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerUpdate:
        return cls(**_with_object(config, "schedule"))


def _dtype() -> str:
    # Steps and rates are past what half precision can hold.
    return "float64" if keras.config.floatx() == "float64" else "float32"


def _value(decay: float | Schedule, step: Any) -> Any:
    value = decay(step) if isinstance(decay, Schedule) else decay
    return ops.cast(value, _dtype())


def _with_object(config: dict[str, Any], name: str) -> dict[str, Any]:
    value = keras.saving.deserialize_keras_object(config[name])
    return {**config, name: value}
