"""Drafts of the CLDR corpus: phrases before they are written in a language.

A draft is the meaning of a phrase with a function that writes it in a given
locale. Calling the function for two locales gives a pair.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from collections.abc import Iterator
from decimal import Decimal
from functools import partial

import babel
from babel import dates
from babel import lists
from babel import numbers
from babel import units

from reproduce.data.choices import Choices
from reproduce.data.choices import identifiers
from reproduce.data.choices import tables_of_codes

Render = Callable[[babel.Locale], str]
# The combination, the words and the `render` function of a draft.
Drawn = tuple[str, list[str], Render]

RATES = ("digital", "energy", "length", "mass", "volume")
PER = ("second", "minute", "hour", "day", "week", "month", "year")
DATE_FORMATS = ("full", "long", "medium")
INTERVAL_SKELETONS = ("yMMMd", "MMMd", "yMMMEd", "MMMEd")
CLOCK_SKELETONS = ("Bhm", "EBhm")
# Weeks are left out, because their numbering depends on the territory.
PERIOD_SKELETONS = ("yQQQQ", "yMMMM")
STYLES = ("standard", "or")
# The kinds of names in lists. All kinds except months and weekdays have
# hundreds of names.
LISTED = (
    *("territories", "territories", "languages", "currencies"),
    *("months", "days"),
)
# The length of each unit in seconds, and Babel's number of units in the next.
RELATIVE = {
    "second": (1, 60),
    "minute": (60, 60),
    "hour": (3600, 24),
    "day": (86_400, 7),
    "week": (604_800, 4),
    "month": (2_592_000, 12),
    "year": (31_536_000, 100),
}


def drafts() -> Iterator[tuple[str, str, list[str], Render]]:
    """Yields all drafts, always in the same order.

    A draft is the kind of phrase, such as "rate"; its meaning, independent of
    the format; the words and formats that a translator must know; and a
    function that writes the phrase in a locale. The function raises
    `LookupError` or Babel's `UnknownUnitError` if the CLDR lacks a name or a
    format in this locale.
    """
    tables = tables_of_codes()
    for table in dict.fromkeys(LISTED):
        for code in tables[table]:
            word = f"{table}/{code}"
            yield "name", word, [word], partial(_name, table, code)
    for identifier in identifiers():
        language, territory = identifier.split("_")
        yield (
            "territorial",
            f"territorial/{identifier}",
            [f"languages/{language}", f"territories/{territory}"],
            partial(_territorial, language, territory),
        )
    for kind, (count, draw) in DRAWN.items():
        one_of = Choices(kind, tables)
        for _ in range(count):
            yield kind, *draw(one_of)


def _name(table: str, code: str | int, locale: babel.Locale) -> str:
    if table in ("months", "days"):
        return getattr(locale, table)["stand-alone"]["wide"][code]
    return getattr(locale, table)[code]


def _territorial(language: str, territory: str, locale: babel.Locale) -> str:
    # `get_display_name` silently omits missing names; these look-ups raise.
    _name("languages", language, locale)
    _name("territories", territory, locale)
    return babel.Locale(language, territory).get_display_name(locale)


def _quantity(one_of: Choices) -> Drawn:
    number, unit = one_of.number(), one_of(one_of.tables["units"])
    return (
        f"quantity/{number}/{unit}",
        [f"units/{unit}"],
        lambda locale: _written(number, unit, locale),
    )


def _several(one_of: Choices) -> Drawn:
    count, style = one_of((2, 2, 3)), one_of(STYLES)
    amounts = [one_of.number() for _ in range(count)]
    chosen = one_of.different(one_of.tables["units"], count)
    pairs = list(zip(amounts, chosen))
    return (
        f"several/{sorted(pairs, key=str)}",
        [f"units/{unit}" for unit in chosen],
        lambda locale: lists.format_list(
            [_written(*pair, locale) for pair in pairs], style, locale
        ),
    )


def _written(number: Decimal, unit: str, locale: babel.Locale) -> str:
    return _named(units.format_unit(number, unit, locale=locale), unit)


def _rate(one_of: Choices) -> Drawn:
    number = one_of.number()
    unit = one_of(
        [u for u in one_of.tables["units"] if u.split("-")[0] in RATES]
    )
    per = f"duration-{one_of(PER)}"

    def render(locale):
        text = units.format_compound_unit(
            number, unit, denominator_unit=per, locale=locale
        )
        return _named(text, unit, per)

    return f"rate/{number}/{unit}/{per}", [f"units/{unit}", per], render


def _named(text: str | None, *unit_ids: str) -> str:
    # Babel writes the id of a unit that has no name.
    if text is None or any(unit in text for unit in unit_ids):
        raise LookupError(f"no name for one of {unit_ids}")
    return text


def _money(one_of: Choices) -> Drawn:
    # At least 1, because less than half a yen is written as 0 yen.
    number = max(one_of.number(), Decimal(1))
    code = one_of(one_of.tables["currencies"])
    return (
        f"money/{number}/{code}",
        [f"money/{code}"],
        lambda locale: numbers.format_currency(
            number, code, locale=locale, format_type="name"
        ),
    )


def _compact(one_of: Choices) -> Drawn:
    # At least 2, because Babel writes "1 Millionen" in German.
    exponent, tenths = one_of((3, 6, 9, 12)), one_of(range(20, 1000))
    return (
        f"compact/{tenths}/{exponent}",
        [f"compact/{exponent}"],
        lambda locale: numbers.format_compact_decimal(
            tenths * 10 ** (exponent - 1),
            format_type="long",
            locale=locale,
            fraction_digits=1,
        ),
    )


def _relative(one_of: Choices) -> Drawn:
    unit = one_of(list(RELATIVE))
    seconds, limit = RELATIVE[unit]
    count = one_of(range(1, limit)) * one_of((1, -1))
    return (
        f"relative/{count}/{unit}",
        [f"relative/{unit}/{count > 0}"],
        lambda locale: dates.format_timedelta(
            count * seconds,
            granularity=unit,
            # Babel's default of 0.85 would write 51 minutes as an hour.
            threshold=1,
            add_direction=True,
            locale=locale,
        ),
    )


def _date(one_of: Choices) -> Drawn:
    day, style = one_of.moment().date(), one_of(DATE_FORMATS)
    return (
        f"date/{day:%m-%d}",
        [style, f"{style}/{day:%m}", f"{style}/{day.weekday()}"],
        lambda locale: dates.format_date(day, style, locale=locale),
    )


def _interval(one_of: Choices) -> Drawn:
    first, skeleton = one_of.moment().date(), one_of(INTERVAL_SKELETONS)
    last = first + datetime.timedelta(one_of(range(1, 80)))
    form = "%Y-%m-%d" if "y" in skeleton else "%m-%d"
    words = [skeleton, f"{skeleton}/{first.month == last.month}"]
    for day in (first, last):
        words += [f"{skeleton}/{day:%m}", f"{skeleton}/{day.weekday()}"]
    return (
        f"interval/{first:{form}}/{last:{form}}",
        words,
        lambda locale: dates.format_interval(
            first, last, skeleton, locale=locale
        ),
    )


def _clock(one_of: Choices) -> Drawn:
    moment, skeleton = one_of.moment(), one_of(CLOCK_SKELETONS)
    weekday = f"/{moment.weekday()}" if "E" in skeleton else ""
    return (
        f"clock/{moment:%H:%M}{weekday}",
        [f"clock/{moment:%H}", f"clock{weekday}"],
        lambda locale: dates.format_skeleton(skeleton, moment, locale=locale),
    )


def _moment(one_of: Choices) -> Drawn:
    moment = one_of.moment()
    return (
        f"date/{moment:%Y-%m-%d}",
        ["moment", f"moment/{moment:%m}"],
        lambda locale: dates.format_datetime(moment, "medium", locale=locale),
    )


def _period(one_of: Choices) -> Drawn:
    moment, skeleton = one_of.moment(), one_of(PERIOD_SKELETONS)
    part = moment.month if "M" in skeleton else (moment.month + 2) // 3
    return (
        f"period/{skeleton}/{moment.year}/{part}",
        [f"{skeleton}/{part}"],
        lambda locale: dates.format_skeleton(skeleton, moment, locale=locale),
    )


def _enumeration(one_of: Choices) -> Drawn:
    table, style = one_of(LISTED), one_of(STYLES)
    codes = one_of.different(one_of.tables[table], one_of((2, 3, 4)))
    return (
        f"enumeration/{table}/{sorted(codes)}",
        [f"{table}/{code}" for code in codes],
        lambda locale: lists.format_list(
            [_name(table, code, locale) for code in codes], style, locale
        ),
    )


# The number of drafts of each kind, and the function that draws one.
DRAWN: dict[str, tuple[int, Callable[[Choices], Drawn]]] = {
    "quantity": (1000, _quantity),
    "several": (800, _several),
    "rate": (600, _rate),
    "money": (800, _money),
    "compact": (200, _compact),
    "relative": (300, _relative),
    "date": (1000, _date),
    "interval": (600, _interval),
    "clock": (600, _clock),
    "moment": (300, _moment),
    "period": (300, _period),
    "enumeration": (1200, _enumeration),
}
