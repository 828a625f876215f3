"""Checks of single arguments, whose errors use the same words everywhere."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.for_loss import DIVERGENCES

Schedule = keras.optimizers.schedules.LearningRateSchedule


def check_choice(
    name: str, value: Any, choices: Sequence[Any], mend: str = ""
) -> None:
    """Raises if an argument is not among the choices."""
    if value not in choices:
        raise ValueError(
            f"Expected `{name}` to be one of {choices}. "
            f"{_received(name, value, mend)}"
        )


def check_bool(name: str, value: Any) -> None:
    """Raises if an argument is not True or False."""
    if not isinstance(value, bool):
        raise TypeError(
            f"Expected `{name}` to be True or False. {_received(name, value)}"
        )


def check_whole(
    name: str, value: Any, least: int | None = None, mend: str = ""
) -> None:
    """Raises if an argument is not a whole number, or is too small."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(
            f"Expected `{name}` to be a whole number. {_received(name, value)}"
        )
    if least is not None and value < least:
        raise ValueError(
            f"Expected `{name}` to be at least {least}. "
            f"{_received(name, value, mend)}"
        )


def check_whole_or_word(
    name: str, value: Any, word: str, what: str, least: int | None = None
) -> None:
    """Raises if an argument is neither a whole number, the word nor None."""
    if isinstance(value, str) and value != word:
        raise ValueError(
            f"Expected `{name}` to be {what}. {_received(name, value)}"
        )
    if value is not None and value != word:
        check_whole(name, value, least)


def check_number(name: str, value: Any, mend: str = "") -> None:
    """Raises if an argument is not a finite number of at least 0.

    Args:
        name: The name of the argument.
        value: Its value.
        mend: A sentence about what else to pass, for the message.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(
            f"Expected `{name}` to be a number. {_received(name, value, mend)}"
        )
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(
            f"Expected `{name}` to be finite and >= 0. "
            f"{_received(name, value, mend)}"
        )


def _received(name: str, value: Any, mend: str = "") -> str:
    return f"Received: {name}={value!r}." + (f" {mend}" if mend else "")


def checked_alpha(alpha: Any) -> float | Schedule | dict[str, Any]:
    """Returns alpha as a float, a schedule, or a dict of these."""
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
    """Returns a divergence, its name, or a dict of these."""
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


def check_together(settings: Any) -> None:
    """Raises if two settings of an `RDrop` contradict each other."""
    if settings.passes == "concat" and settings.dropout_rates is not None:
        raise ValueError(
            "Expected `passes='calls'` with `dropout_rates`: in one call "
            "every layer has one rate. Received: passes='concat', "
            f"dropout_rates={settings.dropout_rates!r}."
        )
    if settings.unlabeled is None and settings.unlabeled_weight != 1.0:
        raise ValueError(
            "Expected `unlabeled` with `unlabeled_weight`: a class id or "
            "'zero_weight' says which items are unlabeled. Received: "
            f"unlabeled=None, unlabeled_weight={settings.unlabeled_weight!r}."
        )
    if settings.vocabulary_chunk is None:
        return
    for name, wanted in (
        ("passes", ("auto", "calls", "shared_prefix")),
        ("every", (1,)),
        ("unlabeled", (None,)),
    ):
        value = getattr(settings, name)
        if value not in wanted:
            raise ValueError(
                f"Expected `{name}={wanted[0]!r}` with `vocabulary_chunk`, "
                f"which supports no other value. Received: {name}={value!r}."
            )


def _check_named(name: str, values: Mapping[Any, Any]) -> None:
    nested = [v for v in values.values() if isinstance(v, Mapping)]
    if not values or nested or not all(isinstance(k, str) for k in values):
        raise ValueError(
            f"Expected `{name}` as a dict to have one entry for each output, "
            "by the output's name as `fit` logs it, less `_loss`. Received: "
            f"{name}={dict(values)!r}."
        )
