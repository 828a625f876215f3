"""The command-line flags that every example has."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import TypeVar

from reproduce.common.arms import ARMS

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Defaults:
    """What an example uses where a flag is not given.

    Attributes:
        dropout: None if it belongs to the size of the model.
        batch_size: None if the example counts batches in something else, and
            has a flag of its own.
    """

    alpha: float
    dropout: float | None
    epochs: int
    batch_size: int | None
    seeds: tuple[int, ...]
    output: str


def add_training_flags(
    parser: argparse.ArgumentParser, defaults: Defaults
) -> None:
    """Adds how to train, what to compare and where to write."""
    group = parser.add_argument_group("training")
    group.add_argument(
        "--arm",
        choices=list(ARMS),
        default="rdrop",
        help="; ".join(f"{arm}: {text}" for arm, text in ARMS.items())
        + " (default: rdrop)",
    )
    group.add_argument(
        "--alpha",
        type=at_least(0.0),
        default=defaults.alpha,
        help="weight of the consistency, the paper's alpha "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--dropout",
        type=rate,
        default=defaults.dropout,
        help="dropout rate of all layers (default: "
        + ("the model's own" if defaults.dropout is None else "%(default)s")
        + ")",
    )
    group.add_argument(
        "--seed",
        type=at_least(0),
        default=defaults.seeds[0],
        help="fixes initial weights, order of rows and dropout "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--epochs",
        type=at_least(1),
        default=defaults.epochs,
        help="(default: %(default)s)",
    )
    if defaults.batch_size is not None:
        group.add_argument(
            "--batch-size",
            type=at_least(1),
            default=defaults.batch_size,
            help="(default: %(default)s)",
        )
    group.add_argument(
        "--learning-rate",
        type=_positive,
        help="the highest one, reached after warm-up "
        "(default: depends on the model)",
    )
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--compare",
        nargs="?",
        const=("plain", "rdrop"),
        type=_arms,
        metavar="ARM,ARM",
        help="train these arms on the same seeds and print a table; the "
        "first is what the others are compared with (default: plain,rdrop)",
    )
    group.add_argument(
        "--seeds",
        type=_seeds,
        metavar="N,N",
        help="for --compare (default: "
        + ",".join(str(seed) for seed in defaults.seeds)
        + ")",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output",
        type=Path,
        default=Path(defaults.output),
        metavar="DIR",
        help="(default: %(default)s)",
    )
    group.add_argument(
        "--resume",
        action="store_true",
        help="continue the interrupted run in --output",
    )


def at_least(lowest: Number) -> Callable[[str], Number]:
    """Returns a type for `argparse`: numbers from a lowest one on."""

    def number(text: str) -> Number:
        value = type(lowest)(text)
        # Not `value < lowest`, which lets "nan" pass.
        if not lowest <= value < float("inf"):
            raise argparse.ArgumentTypeError(
                f"expected at least {lowest}, got {text}"
            )
        return value

    number.__name__ = type(lowest).__name__
    return number


def add_update_counts(group: Any) -> None:
    """Adds --accumulate and --updates."""
    group.add_argument(
        "--accumulate",
        type=at_least(1),
        default=1,
        metavar="BATCHES",
        help="batches in an update (default: %(default)s)",
    )
    group.add_argument(
        "--updates",
        type=at_least(1),
        help="train for at least so many updates, in whole epochs, in place "
        "of --epochs",
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")
    return value


def rate(text: str) -> float:
    """A type for `argparse`: numbers from 0 on, below 1."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(
            f"expected at least 0 and less than 1, got {text}"
        )
    return value


def _arms(text: str) -> tuple[str, ...]:
    arms = tuple(text.split(","))
    unknown = [arm for arm in arms if arm not in ARMS]
    if unknown or len(set(arms)) != len(arms) or len(arms) < 2:
        raise argparse.ArgumentTypeError(
            f"expected two or more of {','.join(ARMS)}, got {text}"
        )
    return arms


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(seed) for seed in text.split(","))
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or len(set(seeds)) != len(seeds):
        raise argparse.ArgumentTypeError(
            f"expected different whole numbers from 0 on, got {text}"
        )
    return seeds
