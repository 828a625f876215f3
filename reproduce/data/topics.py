"""The default corpus: CPython's reference topics, as `help()` prints them.

Every installed Python has them, in `pydoc_data.topics`: some eighty chapters of
the language reference, in English prose with grammar and code between.
"""

from __future__ import annotations

import hashlib
import itertools
import platform
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import count_words

NAME = "Python reference topics"
# Of ten topics, by the hash of their name.
PARTS = {0: "valid", 1: "test"}
ORDER = ("train", "valid", "test")
# A rule below a heading.
RULE = re.compile(r"(\W)\1+")


def load_topics(train_words: int | None = None) -> Corpus:
    """Returns the topics, each in one part.

    Which part is a matter of its name, so that it does not change when others
    come or go. Many paragraphs stand in several topics. They are kept where
    they are first: in training before validation before test, so that neither
    of the latter is in what was trained on.

    Args:
        train_words: Train on the first so many words, of topics in a fixed
            random order, or on all of them if None.
    """
    found: dict[str, list[str]] = {part: [] for part in ORDER}
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (_rank(name), _hash(name))):
        part = part_of(name)
        for paragraph in _paragraphs(topics[name]):
            key = " ".join(" ".join(paragraph).split())
            if key not in seen:
                seen.add(key)
                found[part].extend(paragraph)
    if train_words is not None:
        found["train"] = _first(found["train"], train_words)
    return Corpus(
        name=NAME,
        source=f"CPython {platform.python_version()}",
        **{part: tuple(lines) for part, lines in found.items()},
    )


def part_of(name: str) -> str:
    """Returns the part that a topic belongs to."""
    return PARTS.get(_hash(name) % 10, "train")


def _hash(name: str) -> int:
    digest = hashlib.sha256(name.encode("utf-8")).digest()
    return int.from_bytes(digest, "big")


def _first(lines: list[str], words: int) -> list[str]:
    taken, count = [], 0
    for line in lines:
        if count >= words:
            break
        taken.append(line)
        count += count_words([line])
    return taken


def _rank(name: str) -> int:
    return ORDER.index(part_of(name))


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Yields the lines of each paragraph, prose as one line.

    Only where a text is indented do its ends of lines mean something.
    """
    for filled, group in itertools.groupby(
        text.splitlines(), key=lambda line: bool(line.strip())
    ):
        if not filled:
            continue
        lines = [line for line in group if not RULE.fullmatch(line.strip())]
        if any(line.startswith(" ") for line in lines):
            yield [" ".join(line.split()) for line in lines]
        elif lines:
            yield [" ".join(" ".join(lines).split())]
