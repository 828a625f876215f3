"""The settings of R-Drop, handed to `compile()`."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import keras

from rdrop_keras.losses.divergence import Divergence
from rdrop_keras.losses.inference import DIVERGENCES

Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable(package="rdrop_keras")
@dataclasses.dataclass(frozen=True)
class RDrop:
    """Settings of R-Drop training, for `RDropModel.compile(rdrop=...)`.

    Every batch runs through the model twice with dropout on. Minimised is

        loss = 1/2 (T_1 + T_2 + alpha * C)

    with the task losses `T_i` of the two passes, exactly as plain training
    computes them, and the consistency `C`, the bidirectional KL divergence
    `(KL_12 + KL_21) / 2` in nats, reduced exactly as the task loss is. This
    is the paper's Eq. 4 divided by two: alpha is the paper's alpha, whatever
    the batch size, and `loss` stays on the scale of plain training.

    Args:
        alpha: Weight of the consistency: a number, at least 0, or a
            `keras.optimizers.schedules.LearningRateSchedule`, evaluated at
            the optimizer's iterations. The paper uses 5 for translation, 0.7
            for summarization, 1 for language modelling, 0.1 to 1 for GLUE
            and 0.6 for images. With 0 the two passes are still averaged,
            which is the paper's control without KL.
        divergence: How outputs are compared. `"auto"` follows the compiled
            loss: KL divergence between categorical distributions beside
            categorical crossentropies, between Bernoulli distributions beside
            binary crossentropy, squared error beside MSE, MAE, Huber and
            log-cosh. `"categorical"`, `"bernoulli"`, `"squared_error"` or a
            `rdrop_keras.losses.Divergence` says it for losses that leave
            room for doubt.
        check_dropout: Whether the first training step may fail because both
            passes gave identical outputs, that is because no dropout was
            active and R-Drop would cost double for nothing.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If alpha is negative or not finite, or the divergence is
            unknown.

    Example:

    >>> alpha = keras.optimizers.schedules.PolynomialDecay(0.0, 4000, 5.0)
    >>> settings = rdrop_keras.RDrop(alpha=alpha)
    >>> float(settings.alpha_at(2000))
    2.5

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1.
    """

    alpha: float | Schedule = 1.0
    divergence: str | Divergence = "auto"
    check_dropout: bool = True

    def __post_init__(self):
        if not isinstance(self.alpha, Schedule):
            if isinstance(self.alpha, bool) or not isinstance(
                self.alpha, numbers.Real
            ):
                raise TypeError(
                    "Expected `alpha` to be a number or a "
                    "`keras.optimizers.schedules.LearningRateSchedule`. "
                    f"Received: alpha={self.alpha!r}."
                )
            if not (math.isfinite(self.alpha) and self.alpha >= 0):
                raise ValueError(
                    "Expected `alpha` to be finite and >= 0. Received: "
                    f"alpha={self.alpha!r}. To train without R-Drop, compile "
                    "with `rdrop=None`."
                )
            object.__setattr__(self, "alpha", float(self.alpha))
        if isinstance(self.divergence, str):
            known = ["auto", *DIVERGENCES]
            if self.divergence not in known:
                raise ValueError(
                    f"Expected `divergence` to be one of {known} or a "
                    "`rdrop_keras.losses.Divergence`. Received: "
                    f"divergence={self.divergence!r}."
                )
        elif not isinstance(self.divergence, Divergence):
            raise TypeError(
                "Expected `divergence` to be a string or a "
                "`rdrop_keras.losses.Divergence`. Received: "
                f"divergence={self.divergence!r}."
            )
        if not isinstance(self.check_dropout, bool):
            raise TypeError(
                "Expected `check_dropout` to be True or False. Received: "
                f"check_dropout={self.check_dropout!r}."
            )

    @property
    def num_passes(self) -> int:
        """How many times every batch runs through the model."""
        return 2

    def alpha_at(self, iterations: Any) -> Any:
        """Returns alpha at a number of optimizer updates."""
        if isinstance(self.alpha, Schedule):
            return self.alpha(iterations)
        return self.alpha

    @classmethod
    def from_argument(cls, rdrop: Any) -> RDrop | None:
        """Reads what `compile(rdrop=...)` accepts.

        Args:
            rdrop: An `RDrop`, a number or schedule (alpha), True (alpha 1),
                or None or False for plain training.

        Returns:
            An `RDrop`, or None for plain training.

        Raises:
            TypeError: If it is anything else.
        """
        if rdrop is None or rdrop is False:
            return None
        if isinstance(rdrop, cls):
            return rdrop
        if rdrop is True:
            return cls()
        if isinstance(rdrop, (numbers.Real, Schedule)):
            return cls(alpha=rdrop)
        raise TypeError(
            "Expected `rdrop` to be a number (alpha), an `RDrop`, or None "
            f"for plain training. Received: rdrop={rdrop!r}."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the settings as a JSON-serializable dict."""
        serialize = keras.saving.serialize_keras_object
        return {
            "alpha": serialize(self.alpha),
            "divergence": serialize(self.divergence),
            "check_dropout": self.check_dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RDrop:
        """Restores the settings that `get_config` returned."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{key: deserialize(v) for key, v in config.items()})
