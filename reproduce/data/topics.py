"""The default corpus: CPython's reference topics, as `help()` prints them.

Every installation of Python has them in `pydoc_data.topics`: about eighty
chapters of the language reference, in English prose with grammar and code.
"""

from __future__ import annotations

import itertools
import platform
import re
from collections.abc import Iterator
from pydoc_data.topics import topics

from reproduce.data.held_out import PARTS
from reproduce.data.held_out import digest
from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import first_words

NAME = "Python reference topics"
# The part for the hash of a topic's name modulo 10; all others are training.
PART_OF = {0: "valid", 1: "test"}
# An underline of a heading.
RULE = re.compile(r"(\W)\1+")


def load_topics(train_words: int | None = None) -> Corpus:
    """Returns the topics, each in one part.

    The part of a topic depends only on its name, so that it does not change if
    other topics are added or removed. Many paragraphs occur in several topics.
    Each is kept only once, in the first of training, validation and test that
    has it, so that no held-out paragraph occurs in the training part. Training
    words are taken from topics in the order of a hash.
    """
    topics_of: dict[str, list[str]] = {part: [] for part in PARTS}
    for name in sorted(topics, key=digest):
        topics_of[PART_OF.get(int(digest(name), 16) % 10, "train")].append(name)
    found: dict[str, list[str]] = {part: [] for part in PARTS}
    seen: set[str] = set()
    for part, name in ((p, name) for p in PARTS for name in topics_of[p]):
        for paragraph in _paragraphs(topics[name]):
            key = " ".join(" ".join(paragraph).split())
            if key not in seen:
                seen.add(key)
                found[part].extend(paragraph)
    found["train"] = first_words(found["train"], train_words)
    return Corpus(
        name=NAME,
        source=f"CPython {platform.python_version()}",
        **{part: tuple(lines) for part, lines in found.items()},
    )


def _paragraphs(text: str) -> Iterator[list[str]]:
    """Yields the lines of each paragraph, prose as one line.

    Line breaks are kept only in indented text, where they are significant.
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
