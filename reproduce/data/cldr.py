"""Parallel text that needs no download: what the CLDR says in two languages.

The Unicode CLDR, carried by Babel, says how each language writes quantities,
rates, amounts of money, dates, intervals, times of day, lists and the names of
things. A pair is one such phrase in both languages:

    3.5 kilometers per hour           3,5 Kilometer pro Stunde
    Monday, May 3, 2021               Montag, 3. Mai 2021
    Ghana, Peru, or Norway            Ghana, Peru oder Norwegen

Combinations are held out, not words. Nobody can translate "Tuvalu" unseen, so
names by themselves are in the training part only, and every name, unit and
format of a validation or test phrase occurs in training. What was never seen
is this number with this unit, this date in any format, this language of this
territory, these names in one list: in each case the combination is in one part
only, whatever its wording.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import babel
from babel import localedata
from babel.units import UnknownUnitError

from reproduce.common.errors import InputError
from reproduce.data.parallel_text import ParallelText
from reproduce.data.phrases import Render
from reproduce.data.phrases import drafts
from reproduce.data.translation_corpus import Corpus

# Out of ten combinations: seven for training, one for validation, two for test.
TRAIN_TENTHS, VALID_TENTHS = 7, 1
# A language with fewer territories named has next to nothing else either.
NAMED_TERRITORIES = 200


@dataclass(frozen=True)
class Phrase:
    """A phrase in both languages.

    Attributes:
        source: It in the source language.
        target: It in the target language.
        kind: What it is, such as "rate".
        combination: What it says, in whatever format. Phrases that share it
            are in the same part of the corpus.
        words: What must be known from training to translate it.
    """

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
    """Makes a corpus of CLDR phrases, at most so many pairs in each part.

    The split depends on nothing but the phrases themselves: the same release of
    Babel always gives the same three parts, in the same order, and fewer pairs
    of training are the first ones of more.

    Args:
        target: The language to translate into, as Babel names it: "de",
            "pt_BR". `languages()` lists those without a territory.
        source: The language to translate from.
        train_pairs: The most training pairs.
        valid_pairs: The most validation pairs.
        test_pairs: The most test pairs.

    Raises:
        InputError: If a language is unknown, or CLDR says little in it.
    """
    limits = {"train": train_pairs, "valid": valid_pairs, "test": test_pairs}
    for part, limit in limits.items():
        if limit < 1:
            raise ValueError(
                f"Each part needs at least one pair. Received: "
                f"{part}_pairs={limit}"
            )
    by_part = defaultdict(list)
    for phrase in sorted(phrases(target, source), key=_order):
        by_part[_part_of(phrase)].append(phrase)
    train = by_part["train"][:train_pairs]
    known = frozenset().union(*(phrase.words for phrase in train))
    parts = {"train": _text(train)}
    for part in ("valid", "test"):
        fitting = [phrase for phrase in by_part[part] if phrase.words <= known]
        if not fitting:
            raise ValueError(
                "Expected training pairs enough to know the words of others. "
                f"Received: train_pairs={train_pairs}"
            )
        parts[part] = _text(fitting[: limits[part]])
    return Corpus(
        name="cldr", source_language=source, target_language=target, **parts
    )


def languages() -> tuple[str, ...]:
    """The languages in which the CLDR says enough for a corpus."""
    return tuple(
        code
        for code in sorted(localedata.locale_identifiers())
        if "_" not in code and _is_full(babel.Locale.parse(code))
    )


def phrases(target: str = "de", source: str = "en") -> list[Phrase]:
    """Returns all phrases from which a corpus is drawn.

    No two have the same source: where one wording stands for several things
    that the target language tells apart, it has no right answer and is left
    out. So are phrases that are the same in both languages.
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
            # One wording may stand for two combinations: the first is kept.
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
    # Plain spaces: CLDR's thin and unbreakable ones are typography, which
    # nobody types and no score should hang on.
    return " ".join(text.split())


def _text(chosen: Sequence[Phrase]) -> ParallelText:
    return ParallelText(
        tuple(phrase.source for phrase in chosen),
        tuple(phrase.target for phrase in chosen),
    )


def _part_of(phrase: Phrase) -> str:
    if phrase.kind == "name":
        return "train"
    tenth = int(_digest(phrase.combination), 16) % 10
    if tenth < TRAIN_TENTHS:
        return "train"
    return "valid" if tenth < TRAIN_TENTHS + VALID_TENTHS else "test"


def _order(phrase: Phrase) -> str:
    return _digest(phrase.source)


def _digest(text: str) -> str:
    # Not hash(): Python salts it anew in each process.
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
