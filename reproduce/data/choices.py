"""The codes of things that the CLDR names, and choices among them."""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from typing import TypeVar

import babel
from babel import localedata
from babel import numbers

Option = TypeVar("Option")
Tables = dict[str, list[Any]]
# The currencies in use on a fixed day: Babel's default, the current day, would
# change the corpus over time.
CURRENCIES_ON = datetime.date(2020, 1, 1)


class Choices:
    """Random choices that are the same in every release of Python.

    In the module `random`, only `random()` itself guarantees this.
    """

    def __init__(self, kind: str, tables: Tables):
        self._random = random.Random(kind)
        self.tables = tables

    def __call__(self, options: Sequence[Option]) -> Option:
        return options[int(self._random.random() * len(options))]

    def different(self, options: Sequence[Option], count: int) -> list[Option]:
        """Returns `count` distinct options."""
        chosen: list[Option] = []
        while len(chosen) < count:
            option = self(options)
            if option not in chosen:
                chosen.append(option)
        return chosen

    def number(self) -> Decimal:
        """Returns a random amount. Small amounts are more frequent."""
        largest = self((10, 100, 1000, 100_000))
        number = Decimal(self(range(1, largest)))
        return number / 10 if self(range(4)) == 0 else number

    def moment(self) -> datetime.datetime:
        """Returns a random minute within forty years."""
        return datetime.datetime(1990, 1, 1) + datetime.timedelta(
            minutes=self(range(40 * 365 * 24 * 60))
        )


def tables_of_codes() -> Tables:
    """Returns the codes of all things whose names are translated."""
    english = babel.Locale("en")
    territories = sorted(code for code in english.territories if len(code) == 2)
    currencies = {
        code
        for territory in territories
        for code in numbers.get_territory_currencies(
            territory, CURRENCIES_ON, CURRENCIES_ON
        )
    }
    spoken = {identifier.split("_")[0] for identifier in identifiers()}
    return {
        "territories": territories,
        "languages": sorted(spoken & english.languages.keys()),
        "currencies": sorted(currencies),
        "months": list(range(1, 13)),
        "days": list(range(7)),
        "units": sorted(english.unit_display_names),
    }


def identifiers() -> list[str]:
    """Returns locales, such as `de_AT`, whose language is spoken there."""
    return sorted(
        identifier
        for identifier in localedata.locale_identifiers()
        if re.fullmatch("[a-z]+_[A-Z]{2}", identifier)
        # A hundred territories have English, which would teach one word.
        and not identifier.startswith("en_")
    )
