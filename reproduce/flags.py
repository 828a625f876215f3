"""Types of settings: the values their flags accept, and their error texts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from typing import Any
from typing import Literal
from typing import get_type_hints

from tyro.constructors import PrimitiveConstructorSpec

from reproduce.common.arms import ARMS
from reproduce.common.errors import InputError

INFINITY = float("inf")


@dataclass(frozen=True)
class Flag(PrimitiveConstructorSpec):
    """A flag's parser, with the description of its valid values."""

    expected: str = ""
    holds: Callable[[Any], bool] = lambda value: True


def check_values(settings: Any) -> None:
    """Raises `InputError` for the first setting that is out of range."""
    hints = get_type_hints(type(settings), include_extras=True)
    for name, hint in hints.items():
        value = getattr(settings, name)
        for flag in getattr(hint, "__metadata__", ()):
            if not isinstance(flag, Flag) or value is None:
                continue
            if not flag.holds(value):
                (shown,) = flag.str_from_instance(value)
                raise InputError(
                    f"--{name.replace('_', '-')}: expected {flag.expected}, "
                    f"got {shown}."
                )


def _flag(
    metavar: str,
    read: Callable[[str], Any],
    write: Callable[[Any], str] = str,
    **valid: Any,
) -> Flag:
    # One specification covers values and None, because tyro's error for a
    # union lists every alternative that it tried.
    def parse(arguments: list[str]) -> Any:
        return None if arguments[0] == "none" else read(arguments[0])

    def show(value: Any) -> list[str]:
        return ["none" if value is None else write(value)]

    return Flag(1, metavar, parse, lambda value: True, show, **valid)


def _number(
    kind: type, least: float, below: float = INFINITY, open_: bool = False
) -> Flag:
    expected = f"{'more than' if open_ else 'at least'} {least}"
    if below < INFINITY:
        expected += f" and less than {below}"

    def holds(value: float) -> bool:
        # The test `value < least` would accept NaN.
        return least <= value < below and not (open_ and value == least)

    metavar = kind.__name__.upper()
    return _flag(metavar, kind, expected=expected, holds=holds)


def _words(metavar: str, kind: type, expected: str, holds: Any) -> Flag:
    return _flag(
        metavar,
        lambda text: tuple(kind(word) for word in text.split(",")),
        lambda values: ",".join(map(str, values)),
        expected=expected,
        holds=lambda values: len(set(values)) == len(values) and holds(values),
    )


Strategy = Literal["none", "mirrored", "multi_worker", "data_parallel"]
Arm = Literal["plain", "doubled", "two_pass", "rdrop"]
Arms = Annotated[
    tuple[str, ...],
    _words(
        "ARM,ARM",
        str,
        f"two or more of {','.join(ARMS)}",
        lambda arms: len(arms) > 1 and set(arms) <= set(ARMS),
    ),
]
# NumPy's legacy generators accept seeds below 2^32 only.
Seed = Annotated[int, _number(int, 0, 2**32)]
Seeds = Annotated[
    tuple[int, ...],
    _words(
        "N,N",
        int,
        f"different numbers of at least 0 and less than {2**32}",
        lambda seeds: min(seeds) >= 0 and max(seeds) < 2**32,
    ),
]
Cutoffs = Annotated[
    tuple[int, ...] | None,
    _words(
        "N,N",
        int,
        "ascending numbers of at least 1",
        lambda found: found[0] > 0 and list(found) == sorted(found),
    ),
]
Chunk = Annotated[
    int | str | None,
    _flag(
        "TOKENS|auto",
        lambda text: text if text == "auto" else int(text),
        expected="at least 1, or auto",
        holds=lambda value: value == "auto" or value >= 1,
    ),
]
# A "Maybe" type also accepts "none", as in `--patience none`.
Count = Annotated[int, _number(int, 1)]
MaybeCount = Annotated[int | None, _number(int, 1)]
CountOrZero = Annotated[int, _number(int, 0)]
MaybeCountOrZero = Annotated[int | None, _number(int, 0)]
Rate = Annotated[float, _number(float, 0, 1)]
MaybeRate = Annotated[float | None, _number(float, 0, 1)]
NotNegative = Annotated[float, _number(float, 0)]
MaybeNotNegative = Annotated[float | None, _number(float, 0)]
Positive = Annotated[float, _number(float, 0, open_=True)]
MaybePositive = Annotated[float | None, _number(float, 0, open_=True)]
MaybeRatio = Annotated[float | None, _number(float, 1)]
MaybeFloat = Annotated[float | None, _flag("FLOAT", float)]
MaybePath = Annotated[Path | None, _flag("PATH", Path)]
MaybeText = Annotated[str | None, _flag("TEXT", str)]
