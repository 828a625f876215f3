"""Parallel text without a download: phrases of the CLDR in two languages.

The Unicode CLDR, which Babel carries, defines how each language writes
quantities, rates, amounts of money, dates, intervals, times of day, lists and
names. A pair is one such phrase in both languages:

    3.5 kilometers per hour           3,5 Kilometer pro Stunde
    Monday, May 3, 2021               Montag, 3. Mai 2021
    Ghana, Peru, or Norway            Ghana, Peru oder Norwegen

Combinations are held out, not words. Nobody can translate "Tuvalu" without
having seen it, so single names are in the training part only, and every name,
unit and format of a validation or test phrase also occurs in training. A test
phrase combines them in a new way: a number with a unit, a date in some format,
a language with a territory, several names in a list. Each combination is in
one part only, however it is worded.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import babel
from babel import localedata
from babel.units import UnknownUnitError

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.held_out import digest
from reproduce.data.held_out import part_by_tenths
from reproduce.data.parallel_text import ParallelText
from reproduce.data.phrases import Render
from reproduce.data.phrases import drafts

# Seven tenths of the combinations are for training, one for validation, and
# the other two for the test.
TRAIN_TENTHS, VALID_TENTHS = 7, 1
# A language that names fewer territories lacks most other names as well.
NAMED_TERRITORIES = 200


@dataclass(frozen=True)
class Phrase:
    """A phrase in both languages; see `drafts` for the other fields."""

    source: str
    target: str
    kind: str
    combination: str
    words: frozenset[str]


def load_cldr(
    target: str = "de",
    source: str = "en",
    train_pairs: int = 2500,
    valid_pairs: int = 300,
    test_pairs: int = 500,
) -> Corpus:
    """Returns a corpus of CLDR phrases.

    The split depends only on the phrases themselves: the same release of Babel
    always gives the same three parts, in the same order. A smaller training
    part is a prefix of a larger one.

    Args:
        target: The language to translate into, as Babel names it: "de",
            "pt_BR". `languages()` lists those without a territory.
        source: The language to translate from.
        train_pairs: The maximum number of pairs, and so on.
    """
    limits = {"train": train_pairs, "valid": valid_pairs, "test": test_pairs}
    for part, limit in limits.items():
        if limit < 1:
            raise ValueError(
                f"Each part needs at least one pair. Received: "
                f"{part}_pairs={limit}"
            )
    by_part = defaultdict(list)
    for phrase in sorted(
        phrases(target, source), key=lambda p: digest(p.source)
    ):
        by_part[_part_of(phrase)].append(phrase)
    train = by_part["train"][:train_pairs]
    known = frozenset().union(*(phrase.words for phrase in train))
    chosen = {"train": train}
    for part in ("valid", "test"):
        fitting = [phrase for phrase in by_part[part] if phrase.words <= known]
        if not fitting:
            raise ValueError(
                "Expected training pairs enough to know the words of others. "
                f"Received: train_pairs={train_pairs}"
            )
        chosen[part] = fitting[: limits[part]]
    parts = {
        part: ParallelText.of((p.source, p.target) for p in found)
        for part, found in chosen.items()
    }
    return Corpus(
        name="cldr", source_language=source, target_language=target, **parts
    )


def languages() -> tuple[str, ...]:
    """Returns the languages with enough phrases for a corpus."""
    return tuple(
        code
        for code in sorted(localedata.locale_identifiers())
        if "_" not in code and _is_full(babel.Locale.parse(code))
    )


def phrases(target: str = "de", source: str = "en") -> list[Phrase]:
    """Returns all phrases from which a corpus is drawn.

    All sources are distinct. A wording with several meanings that the target
    language distinguishes is left out, because it has no unique translation.
    Phrases that are equal in both languages are left out as well.
    """
    source_locale, target_locale = _locale(source), _locale(target)
    if source_locale.language == target_locale.language:
        raise InputError(
            f"Expected two different languages, got {source} and {target}."
        )
    found: dict[str, dict[str, Phrase]] = defaultdict(dict)
    for kind, combination, words, render in drafts():
        ours = _rendered(render, source_locale)
        theirs = _rendered(render, target_locale)
        if ours and theirs and ours.casefold() != theirs.casefold():
            phrase = Phrase(ours, theirs, kind, combination, frozenset(words))
            # One wording may express two combinations. The first is kept.
            found[ours].setdefault(theirs, phrase)
    return [
        next(iter(wordings.values()))
        for wordings in found.values()
        if len(wordings) == 1
    ]


def _locale(language: str) -> babel.Locale:
    try:
        locale = babel.Locale.parse(language)
    except (babel.UnknownLocaleError, ValueError):
        raise InputError(
            f"The CLDR has no language {language!r}. Expected a code such as "
            "de, fr or pt_BR."
        ) from None
    if not _is_full(locale):
        raise InputError(
            f"The CLDR says too little in {language!r} for a corpus. Expected "
            "a language such as de, fr or pt_BR."
        )
    return locale


def _is_full(locale: babel.Locale) -> bool:
    return len(locale.territories) >= NAMED_TERRITORIES


def _rendered(render: Render, locale: babel.Locale) -> str:
    try:
        text = render(locale)
    except (LookupError, UnknownUnitError):
        # The CLDR lacks a name or a format in this language.
        return ""
    # CLDR's thin and no-break spaces are typography, which should not affect
    # scores.
    return " ".join(text.split())


def _part_of(phrase: Phrase) -> str:
    if phrase.kind == "name":
        return "train"
    return part_by_tenths(phrase.combination, TRAIN_TENTHS, VALID_TENTHS)
