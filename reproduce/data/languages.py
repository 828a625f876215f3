"""Language identification on names from the CLDR.

The Unicode CLDR, which Babel carries, has the names of territories, languages,
scripts, currencies, units, months and weekdays in each language. A text is one
such name, and its class is the language.

All languages use Latin or Cyrillic letters, so that the script never determines
the class, and several are closely related (Czech and Slovak, Spanish and
Galician). Whole concepts are held out: the names of Germany in all languages
are in the same part, because "Almanya" would otherwise reveal "Almaniya".
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import babel
from babel.units import get_unit_name

from reproduce.data.held_out import digest
from reproduce.data.held_out import part_by_tenths
from reproduce.data.texts import Dataset
from reproduce.data.texts import Part

# fmt: off
LATIN = (
    "af", "az", "ca", "cs", "cy", "da", "de", "en", "es", "et", "eu", "fi",
    "fr", "ga", "gl", "hr", "hu", "id", "is", "it", "lt", "lv", "nb", "nl",
    "pl", "pt", "ro", "sk", "sl", "sq", "sv", "sw", "tr", "uz", "vi",
)
# fmt: on
CYRILLIC = ("be", "bg", "kk", "mk", "ru", "sr", "uk")
LANGUAGES = LATIN + CYRILLIC

# Three tenths of the concepts are for training, two for validation, and five
# for the test, which has to show small differences.
TRAIN_TENTHS, VALID_TENTHS = 3, 2


def load_languages(
    train_per_class: int = 40,
    valid_per_class: int = 20,
    test_per_class: int = 150,
) -> Dataset:
    """Returns CLDR names, up to the given number per language in each part.

    The split depends only on the names themselves: the same release of Babel
    always gives the same three parts, in the same order.
    """
    limits = {
        "train": train_per_class,
        "valid": valid_per_class,
        "test": test_per_class,
    }
    for part, limit in limits.items():
        if limit < 1:
            raise ValueError(
                f"Each part needs at least one name per language. "
                f"Received: {part}_per_class={limit}"
            )
    rows = {part: [] for part in limits}
    for language, names in unambiguous_names().items():
        label = babel.Locale.parse(language).english_name
        by_part = defaultdict(list)
        for name, concept in names.items():
            part = part_by_tenths(concept, TRAIN_TENTHS, VALID_TENTHS)
            by_part[part].append(name)
        for part, limit in limits.items():
            chosen = sorted(by_part[part], key=digest)[:limit]
            rows[part] += [(name, label) for name in chosen]
    # Sorting by digest makes a prefix of a part a fair sample of its classes.
    parts = {}
    for part, pairs in rows.items():
        texts, labels = zip(*sorted(pairs, key=lambda pair: digest(pair[0])))
        parts[part] = Part(texts, None, labels)
    classes = tuple(sorted(set(parts["train"].labels)))
    valid, test = {"valid": parts["valid"]}, {"test": parts["test"]}
    return Dataset("languages", classes, parts["train"], valid, test)


def unambiguous_names() -> dict[str, dict[str, str]]:
    """Returns the names of each language, with the concept of each name.

    A name that two languages share ("Madrid") is ambiguous and left out. A name
    of several concepts in one language ("Georgia") is kept once, under the
    concept that sorts first.
    """
    # Names that differ only in case, "Mars" and "mars", count as one.
    found = {language: {} for language in LANGUAGES}
    languages_of = defaultdict(set)
    for language in LANGUAGES:
        for concept, name in sorted(_concepts(babel.Locale.parse(language))):
            name = " ".join(name.split())
            if any(character.isalpha() for character in name):
                found[language].setdefault(name.casefold(), (name, concept))
                languages_of[name.casefold()].add(language)
    return {
        language: {
            name: concept
            for key, (name, concept) in names.items()
            if len(languages_of[key]) == 1
        }
        for language, names in found.items()
    }


def _concepts(locale: babel.Locale) -> Iterator[tuple[str, str]]:
    for kind, names in (
        ("territory", locale.territories),
        ("language", locale.languages),
        ("script", locale.scripts),
        ("currency", locale.currencies),
    ):
        for code, name in names.items():
            yield f"{kind}/{code}", name
    # "format" and "stand-alone" are two inflections of one concept.
    for context in ("format", "stand-alone"):
        for number, name in locale.months[context]["wide"].items():
            yield f"month/{number}", name
        for number, name in locale.days[context]["wide"].items():
            yield f"weekday/{number}", name
    for code in locale.unit_display_names:
        name = get_unit_name(code, locale=locale)
        if name:
            yield f"unit/{code}", name
