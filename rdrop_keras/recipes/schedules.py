"""The paper's learning rate schedules that Keras does not have.

A step is the number of updates made before, which both fairseq's `num_updates`
and Keras's `optimizer.iterations` count: the first update uses the value at 0.
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

    This is fairseq's `inverse_sqrt`, which trains the paper's translation
    models.

    Args:
        learning_rate: The highest learning rate, reached at step
            `warmup_updates`.
        warmup_updates: The length of the warm-up, at least 1.
        initial_learning_rate: The learning rate at step 0. The authors'
            scripts set 1e-7; fairseq's default is 0.

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
        # `ops.where` computes both branches: this one must be finite at 0.
        falling = (
            self.learning_rate
            * math.sqrt(self.warmup_updates)
            * ops.rsqrt(ops.maximum(step, 1.0))
        )
        return _warm_up(self, step, self.learning_rate, falling)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))


@keras.saving.register_keras_serializable(package="rdrop_keras")
class LinearWarmup(Schedule):
    """A linear warm-up before any other schedule.

    The warm-up leads to the first value of `decay`, which then runs from its
    own step 0. Around `keras.optimizers.schedules.PolynomialDecay` it is
    `polynomial_decay` of fairseq and of HF Transformers.

    Args:
        decay: A `keras.optimizers.schedules.LearningRateSchedule`, or a number
            for a constant learning rate after the warm-up.
        warmup_updates: The length of the warm-up; 0 for no warm-up.
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

        def decayed(step):
            fixed = not isinstance(self.decay, Schedule)
            value = self.decay if fixed else self.decay(step)
            return ops.cast(value, _dtype())

        falling = decayed(ops.maximum(step - self.warmup_updates, 0.0))
        if self.warmup_updates == 0:
            return falling
        return _warm_up(self, step, decayed(0), falling)

    def get_config(self) -> dict[str, Any]:
        decay = keras.saving.serialize_keras_object(self.decay)
        return {**vars(self), "decay": decay}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearWarmup:
        decay = keras.saving.deserialize_keras_object(config["decay"])
        return cls(**{**config, "decay": decay})


@keras.saving.register_keras_serializable(package="rdrop_keras")
class PerUpdate(Schedule):
    """Counts updates for a schedule when gradients are accumulated.

    With `gradient_accumulation_steps`, a Keras optimizer calls its schedule
    with the number of batches. This divides by the batches per update.

    Args:
        schedule: A `keras.optimizers.schedules.LearningRateSchedule` that
            counts updates.
        gradient_accumulation_steps: That of the optimizer, at least 1.

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
        # 64 bits on TensorFlow, 32 on JAX, which has no more by default.
        step = ops.cast(step, "int")
        return self.schedule(step // self.gradient_accumulation_steps)

    def get_config(self) -> dict[str, Any]:
        schedule = keras.saving.serialize_keras_object(self.schedule)
        return {**vars(self), "schedule": schedule}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PerUpdate:
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})


def _warm_up(schedule: Any, step: Any, highest: Any, falling: Any) -> Any:
    first = schedule.initial_learning_rate
    done = step / schedule.warmup_updates
    rising = first + (highest - first) * done
    return ops.where(step < schedule.warmup_updates, rising, falling)


def _dtype() -> str:
    # Half precision holds neither large steps nor small rates.
    return "float64" if keras.config.floatx() == "float64" else "float32"
