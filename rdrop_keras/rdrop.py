"""The settings of R-Drop, handed to `compile()`."""

from __future__ import annotations

import dataclasses
import math
import numbers
from typing import Any

import keras

from rdrop_keras.losses.divergence import Divergence
from rdrop_keras.losses.inference import DIVERGENCES

PASSES = ("auto", "calls", "concat")
MOVING_STATISTICS = ("every_pass", "first_pass")
Schedule = keras.optimizers.schedules.LearningRateSchedule


@keras.saving.register_keras_serializable(package="rdrop_keras")
@dataclasses.dataclass(frozen=True)
class RDrop:
    """Settings of R-Drop training, for `RDropModel.compile(rdrop=...)`.

    Every batch runs through the model m times with dropout on, by default
    twice. Minimised is

        loss = 1/m (T_1 + ... + T_m + alpha * C)

    with the task losses `T_i` of the passes, exactly as plain training
    computes them, and the consistency `C`, the KL divergence averaged over
    all ordered pairs of passes, `(KL_12 + KL_21) / 2` for two, in nats,
    reduced exactly as the task loss is. This is the paper's objective divided
    by m: alpha is the paper's alpha, whatever the batch size, and `loss` stays
    on the scale of plain training.

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
        num_passes: How many times each batch runs through the model, m >= 2
            (the paper's section 4.3; it finds 2 enough).
        every: The passes beyond the first and the consistency are made at
            every k-th optimizer update only, from the first one on; at the
            others training is plain, at plain cost (section 4.2; it finds 1
            best). `consistency_loss` is logged over the updates that have it.
        dropout_rates: One dropout rate for each pass, in place of the model's
            own: every layer with a rate above 0 gets it for that pass
            (section 4.4; it finds equal rates best). None keeps the rates.
        passes: How the passes run. `"calls"`: one call of the model each,
            right for every model. `"concat"`: one call on the batch repeated
            m times (the paper's Algorithm 1), half the graph to trace and
            compile; needs dense inputs, and outputs with the batch as their
            first axis, and batch normalization sees the repeated batch.
            `"auto"` is `"calls"`.
        moving_statistics: What batch normalization remembers of a step:
            `"every_pass"` advances its moving statistics at each pass, as
            Keras does at each call, m times a step; `"first_pass"` leaves them
            as one plain pass would.
        stop_gradient: Whether the first argument of each KL term is a
            constant target, so that each pass follows the others and gets no
            gradient for being followed. `consistency_loss` stays the same,
            its gradient is that of one side. The paper's objective has
            gradients on both sides.
        check_dropout: Whether the first training step may fail because both
            passes gave identical outputs, that is because no dropout was
            active and R-Drop would cost double for nothing.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or two contradict.

    Example:

    >>> alpha = keras.optimizers.schedules.PolynomialDecay(0.0, 4000, 5.0)
    >>> settings = rdrop_keras.RDrop(alpha=alpha)
    >>> float(settings.alpha_at(2000))
    2.5

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.
    """

    alpha: float | Schedule = 1.0
    divergence: str | Divergence = "auto"
    _: dataclasses.KW_ONLY
    num_passes: int = 2
    every: int = 1
    dropout_rates: tuple[float, ...] | None = None
    passes: str = "auto"
    moving_statistics: str = "every_pass"
    stop_gradient: bool = False
    check_dropout: bool = True

    def __post_init__(self):
        if not isinstance(self.alpha, Schedule):
            object.__setattr__(self, "alpha", _checked_alpha(self.alpha))
        _check_divergence(self.divergence)
        check_whole("num_passes", self.num_passes, least=2)
        check_whole("every", self.every, least=1)
        if self.dropout_rates is not None:
            rates = _checked_rates(self.dropout_rates, self.num_passes)
            object.__setattr__(self, "dropout_rates", rates)
        _check_choice("passes", self.passes, PASSES)
        _check_choice(
            "moving_statistics", self.moving_statistics, MOVING_STATISTICS
        )
        if self.passes == "concat" and self.dropout_rates is not None:
            raise ValueError(
                "Expected `passes='calls'` with `dropout_rates`: in one call "
                "every layer has one rate. Received: passes='concat', "
                f"dropout_rates={self.dropout_rates!r}."
            )
        if self.passes == "concat" and self.moving_statistics == "first_pass":
            raise ValueError(
                "Expected `passes='calls'` with "
                "`moving_statistics='first_pass'`: in one call batch "
                "normalization sees the repeated batch as a whole. Received: "
                "passes='concat'."
            )
        for name in ("stop_gradient", "check_dropout"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"Expected `{name}` to be True or False. Received: "
                    f"{name}={getattr(self, name)!r}."
                )

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
            field.name: serialize(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RDrop:
        """Restores the settings that `get_config` returned."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{key: deserialize(v) for key, v in config.items()})


def _checked_alpha(alpha: Any) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, numbers.Real):
        raise TypeError(
            "Expected `alpha` to be a number or a "
            "`keras.optimizers.schedules.LearningRateSchedule`. "
            f"Received: alpha={alpha!r}."
        )
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ValueError(
            "Expected `alpha` to be finite and >= 0. Received: "
            f"alpha={alpha!r}. To train without R-Drop, compile with "
            "`rdrop=None`."
        )
    return float(alpha)


def _check_divergence(divergence: Any) -> None:
    known = ["auto", *DIVERGENCES]
    if isinstance(divergence, str) and divergence not in known:
        raise ValueError(
            f"Expected `divergence` to be one of {known} or a "
            "`rdrop_keras.losses.Divergence`. Received: "
            f"divergence={divergence!r}."
        )
    if not isinstance(divergence, (str, Divergence)):
        raise TypeError(
            "Expected `divergence` to be a string or a "
            "`rdrop_keras.losses.Divergence`. Received: "
            f"divergence={divergence!r}."
        )


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"Expected `{name}` to be one of {choices}. Received: "
            f"{name}={value!r}."
        )


def check_whole(name: str, value: Any, least: int) -> None:
    """Raises if an argument is no whole number, or too small."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"Expected `{name}` to be a whole number. Received: "
            f"{name}={value!r}."
        )
    if value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: "
            f"{name}={value!r}."
            + (
                " One pass is plain training: `rdrop=None`."
                if name == "num_passes"
                else ""
            )
        )


def _checked_rates(rates: Any, num_passes: int) -> tuple[float, ...]:
    if not isinstance(rates, (list, tuple)) or not all(
        isinstance(r, numbers.Real) and not isinstance(r, bool) for r in rates
    ):
        raise TypeError(
            "Expected `dropout_rates` to be one number for each pass. "
            f"Received: dropout_rates={rates!r}."
        )
    if len(rates) != num_passes or not all(0 <= rate < 1 for rate in rates):
        raise ValueError(
            f"Expected `dropout_rates` to be {num_passes} rates, one for each "
            "of `num_passes`, at least 0 and below 1. Received: "
            f"dropout_rates={rates!r}."
        )
    return tuple(float(rate) for rate in rates)
