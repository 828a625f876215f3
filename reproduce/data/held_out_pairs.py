"""Corpora of aligned texts that are split by group."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from typing import Any

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.held_out import Item
from reproduce.data.held_out import split
from reproduce.data.parallel_text import ParallelText

# Translations whose lengths in characters differ by more are not translations.
RATIO, SLACK = 2.5, 15


def similar_length(source: str, target: str) -> bool:
    """Returns whether two texts may be translations of one another."""
    shorter, longer = sorted((len(source), len(target)))
    return longer <= RATIO * shorter + SLACK


def is_translation(source: str, target: str) -> bool:
    """Returns whether a pair is not evidently something else."""
    return (
        source.casefold() != target.casefold()
        and all(any(map(str.isalpha, text)) for text in (source, target))
        and similar_length(source, target)
    )


def parallel_corpus(
    name: str,
    items: Iterable[Item],
    names: Collection[str] = (),
    train_pairs: int | None = None,
    maximum_words: int | None = None,
    facts: Mapping[str, Any] | None = None,
    **languages: str,
) -> Corpus:
    """Returns a corpus of the pairs that are translations.

    Args:
        name: The name of the corpus.
        items: Pairs of texts, with their groups.
        names: Names to ignore when held-out texts are looked up in the
            training part.
        train_pairs: The maximum number of training pairs, or None.
        maximum_words: The maximum number of words on a side, or None. The split
            does not depend on it.
        facts: Facts to show before those about the pairs.
        **languages: The languages, as for `Corpus`.

    Raises:
        InputError: If a part has no pairs.
    """
    aligned = list(items)
    pairs = [item for item in aligned if is_translation(*item.texts)]
    found = split(pairs, names)
    parts = {}
    for part, chosen in found.parts.items():
        if maximum_words is not None:
            chosen = [item for item in chosen if _words(item) <= maximum_words]
        if part == "train":
            chosen = chosen[:train_pairs]
        if not chosen:
            raise InputError(
                f"{name}: {len(found.distinct)} pairs of "
                f"{' and '.join(languages.values())}, "
                f"{_named(maximum_words)} for the part {part}. Expected more "
                "text in both languages."
            )
        parts[part] = ParallelText(*zip(*(item.texts for item in chosen)))
    words = [
        sum(_count(item.texts[side]) for item in found.distinct)
        for side in (0, 1)
    ]
    return Corpus(
        name,
        **parts,
        **languages,
        extra={
            **(facts or {}),
            "pairs": len(found.distinct),
            "source_words": words[0],
            "target_words": words[1],
            "untranslated": len(aligned) - len(pairs),
            **found.facts(),
        },
    )


def _named(maximum_words: int | None) -> str:
    return f"none of at most {maximum_words} words" if maximum_words else "none"


def _count(text: str) -> int:
    return len(text.split())


def _words(item: Item) -> int:
    return max(map(_count, item.texts))
