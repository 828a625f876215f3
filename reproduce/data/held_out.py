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
from dataclasses import dataclass
from typing import NamedTuple

PARTS = ("train", "valid", "test")
# The maximum number of items of validation and of test.
LARGEST = 2000
# More items are held out than are kept, because some are dropped. In a small
# corpus, no more than this share of the groups is for validation, or for test.
SURPLUS, LARGEST_SHARE = 1.3, 0.1
WORD = re.compile(r"\w(?:[\w+.-]*[\w+])?")
NUMBER = re.compile(r"\d+")


class Item(NamedTuple):
    """Texts that belong together, and the group they are from.

    Attributes:
        group: The name of the group.
        texts: The texts, such as a sentence and its translation.
        label: The class of the texts, if they have one.
    """

    group: str
    texts: tuple[str, ...]
    label: str | None = None


@dataclass(frozen=True)
class Split:
    """The parts, each in the order of a hash of the texts.

    Attributes:
        parts: The items by part.
        distinct: All distinct items.
        duplicates: The number of repeated items, which are left out.
        dropped: The number of items of validation and test whose texts occur in
            the training part.
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
    that has one of them.

    Args:
        items: The items.
        names: Names to ignore in the comparison of texts, in lower case.
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
    for texts in sorted(first, key=lambda texts: _digest("\t".join(texts))):
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
    """Returns the part that a group belongs to.

    A larger share moves groups out of the training part, but never from
    validation to test.

    Args:
        group: The name of the group.
        share: The share of groups for validation, and for the test.
    """
    place = int(_digest(group), 16) / 2**256
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


def _digest(text: str) -> str:
    # Python's hash() is salted differently in each process.
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
