"""Splits texts into training, validation and test part by group.

A group, for example a source package, is in one part only, which a hash of its
name determines. So everyone gets the same validation and test part, whatever
the size of the training part.

Groups share sentences ("This package contains the documentation."), sometimes
with another name or number in them. A text of validation and test that occurs
in the training part is dropped. Case, punctuation and numbers are ignored in
this comparison, and so are the given names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from typing import NamedTuple

from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.parallel_text import ParallelText

PARTS = ("train", "valid", "test")
# The maximum number of items of validation and of test.
LARGEST = 2000
# More items are held out than are kept, because some are dropped. In a small
# corpus, no more than this share of the groups is for validation, or for test.
SURPLUS, LARGEST_SHARE = 1.3, 0.1
WORD = re.compile(r"\w(?:[\w+.-]*[\w+])?")
NUMBER = re.compile(r"\d+")
# Translations whose lengths in characters differ by more are not translations.
RATIO, SLACK = 2.5, 15


class Item(NamedTuple):
    """Texts that belong together, such as a sentence and its translation, the
    name of the group they are from, and their class, if they have one.
    """

    group: str
    texts: tuple[str, ...]
    label: str | None = None


@dataclass(frozen=True)
class Split:
    """The items of each part, in the order of a hash of the texts, all distinct
    items, and the numbers of items that were left out.
    """

    parts: dict[str, list[Item]]
    distinct: list[Item]
    duplicates: int
    dropped: int

    def facts(self) -> dict[str, int]:
        """Returns what was left out."""
        return {
            "duplicates": self.duplicates,
            "held_out_seen_in_training": self.dropped,
        }


def split(items: Iterable[Item], names: Collection[str] = ()) -> Split:
    """Splits items into the three parts.

    An item of several groups is in the first of training, validation and test
    that has one of them. `names`, in lower case, are ignored in the comparison
    of texts.
    """
    first: dict[tuple[str, ...], Item] = {}
    groups: dict[tuple[str, ...], set[str]] = {}
    count = 0
    for item in items:
        count += 1
        first.setdefault(item.texts, item)
        groups.setdefault(item.texts, set()).add(item.group)
    share = min(SURPLUS * LARGEST / max(len(first), 1), LARGEST_SHARE)
    part_of_group = {
        group: part_of(group, share) for group in set().union(*groups.values())
    }
    parts: dict[str, list[Item]] = {part: [] for part in PARTS}
    for texts in sorted(first, key=lambda texts: digest("\t".join(texts))):
        found = {part_of_group[group] for group in groups[texts]}
        parts[min(found, key=PARTS.index)].append(first[texts])
    known = [set(side) for side in zip(*_normalized(parts["train"], names))]
    dropped = 0
    for part in ("valid", "test"):
        kept = [
            item
            for item, sides in zip(parts[part], _normalized(parts[part], names))
            if not any(side in seen for side, seen in zip(sides, known))
        ]
        dropped += len(parts[part]) - len(kept)
        parts[part] = kept[:LARGEST]
    return Split(parts, list(first.values()), count - len(first), dropped)


def part_of(group: str, share: float) -> str:
    """Returns the part of a group, given the share of validation and of test.

    A larger share moves groups out of the training part, but never from
    validation to test.
    """
    place = int(digest(group), 16) / 2**256
    if place < share:
        return "test"
    return "valid" if place >= 1 - share else "train"


def normalized(text: str, names: Collection[str] = ()) -> str:
    """Returns a text without case, punctuation, numbers and names."""
    words = WORD.findall(text.casefold())
    return NUMBER.sub("0", " ".join("*" if w in names else w for w in words))


def _normalized(
    items: Iterable[Item], names: Collection[str]
) -> Iterable[tuple[str, ...]]:
    for item in items:
        yield tuple(normalized(text, names) for text in item.texts)


def part_by_tenths(name: str, train: int, valid: int) -> str:
    """Returns the part of a name, by tenths of training and validation."""
    tenth = int(digest(name), 16) % 10
    if tenth < train:
        return "train"
    return "valid" if tenth < train + valid else "test"


def digest(text: str) -> str:
    """Returns the SHA-256 of a text: each process salts Python's `hash`."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def similar_length(source: str, target: str) -> bool:
    """Returns whether two texts may be translations of one another."""
    shorter, longer = sorted((len(source), len(target)))
    return longer <= RATIO * shorter + SLACK


def _is_translation(source: str, target: str) -> bool:
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
        names: Names to ignore, as for `split`.
        train_pairs: The maximum number of training pairs. A smaller training
            part is a prefix of a larger one. None takes all pairs.
        maximum_words: The maximum number of words on a side of a pair, in all
            parts; the split does not depend on it. None keeps all pairs.
        facts: Facts to show before those about the pairs.
        **languages: The languages, as for `Corpus`.
    """
    aligned = list(items)
    pairs = [item for item in aligned if _is_translation(*item.texts)]
    found = split(pairs, names)
    parts = {}
    for part, chosen in found.parts.items():
        if maximum_words is not None:
            chosen = [
                item
                for item in chosen
                if max(map(_words, item.texts)) <= maximum_words
            ]
        if part == "train":
            chosen = chosen[:train_pairs]
        if not chosen:
            least = (
                f" of at most {maximum_words} words" if maximum_words else ""
            )
            raise InputError(
                f"{name}: {len(found.distinct)} pairs of "
                f"{' and '.join(languages.values())}, none{least} for the part "
                f"{part}. Expected more text in both languages."
            )
        parts[part] = ParallelText.of(item.texts for item in chosen)
    sources, targets = zip(*(item.texts for item in found.distinct))
    return Corpus(
        name,
        **parts,
        **languages,
        extra={
            **(facts or {}),
            "pairs": len(found.distinct),
            "source_words": sum(map(_words, sources)),
            "target_words": sum(map(_words, targets)),
            "untranslated": len(aligned) - len(pairs),
            **found.facts(),
        },
    )


def _words(text: str) -> int:
    return len(text.split())
