"""Checks of single arguments, with the same words everywhere."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.for_loss import DIVERGENCES

Schedule = keras.optimizers.schedules.LearningRateSchedule


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises if an argument is none of the choices."""
    if value not in choices:
        raise ValueError(
            f"Expected `{name}` to be one of {choices}. Received: "
            f"{name}={value!r}."
        )


def check_bool(name: str, value: Any) -> None:
    """Raises if an argument is not True or False."""
    if not isinstance(value, bool):
        raise TypeError(
            f"Expected `{name}` to be True or False. Received: "
            f"{name}={value!r}."
        )


def check_whole(name: str, value: Any, least: int | None = None) -> None:
    """Raises if an argument is no whole number, or too small."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"Expected `{name}` to be a whole number. Received: "
            f"{name}={value!r}."
        )
    if least is not None and value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. Received: "
            f"{name}={value!r}."
            + (
                " One pass is plain training: `rdrop=None`."
                if name == "num_passes"
                else ""
            )
        )


def check_number(name: str, value: Any, mend: str = "") -> None:
    """Raises if an argument is no finite number of at least 0.

    Args:
        name: The name of the argument.
        value: Its value.
        mend: What else it could be, or do, for the message.
    """
    mend = f" {mend}" if mend else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"Expected `{name}` to be a number. Received: {name}={value!r}."
            f"{mend}"
        )
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"Expected `{name}` to be finite and >= 0. Received: "
            f"{name}={value!r}.{mend}"
        )


def checked_alpha(alpha: Any) -> float | Schedule | dict[str, Any]:
    """Returns alpha as settings keep it: a float, a schedule, or a dict."""
    if isinstance(alpha, Mapping):
        _check_named("alpha", alpha)
        return {name: checked_alpha(value) for name, value in alpha.items()}
    if isinstance(alpha, Schedule):
        return alpha
    check_number(
        "alpha",
        alpha,
        "It may also be a `keras.optimizers.schedules.LearningRateSchedule`, "
        "or a dict of either by output name. To train without R-Drop, compile "
        "with `rdrop=None`.",
    )
    return float(alpha)


def checked_divergence(divergence: Any) -> str | Divergence | dict[str, Any]:
    """Returns the divergence as settings keep it."""
    if isinstance(divergence, Mapping):
        _check_named("divergence", divergence)
        return {name: checked_divergence(d) for name, d in divergence.items()}
    known = ["auto", *DIVERGENCES]
    if isinstance(divergence, str) and divergence not in known:
        raise ValueError(
            f"Expected `divergence` to be one of {known} or a "
            "`rdrop_keras.losses.Divergence`. Received: "
            f"divergence={divergence!r}."
        )
    if not isinstance(divergence, (str, Divergence)):
        raise TypeError(
            "Expected `divergence` to be a string, a "
            "`rdrop_keras.losses.Divergence`, or a dict of either by output "
            f"name. Received: divergence={divergence!r}."
        )
    return divergence


def checked_rates(rates: Any, num_passes: int) -> tuple[float, ...]:
    """Returns one dropout rate for each pass."""
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


def _check_named(name: str, values: Mapping[Any, Any]) -> None:
    nested = [v for v in values.values() if isinstance(v, Mapping)]
    if not values or nested or not all(isinstance(k, str) for k in values):
        raise ValueError(
            f"Expected `{name}` as a dict to have one entry for each output, "
            "by the output's name as `fit` logs it, less `_loss`. Received: "
            f"{name}={dict(values)!r}."
        )
