"""Corpora of lines: own files, WikiText, and Python's reference topics.

Files are UTF-8, with or without a byte order mark. Lines end with a line feed,
or with a carriage return and a line feed. Nothing is skipped, because the
perplexity of a text with gaps is not comparable with other results.
"""

from __future__ import annotations

import codecs
import itertools
import platform
import re
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

from reproduce.common.errors import InputError
from reproduce.data.held_out import PARTS
from reproduce.data.held_out import digest

# The names of WikiText's published files.
WIKITEXT = "wiki.{}.tokens"
# The part for the hash of a topic's name modulo 10; all others are training.
PART_OF = {0: "valid", 1: "test"}
# An underline of a heading.
RULE = re.compile(r"(\W)\1+")


@dataclass(frozen=True)
class LineFile:
    """The lines of a file, reread each time: the file may exceed the memory."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        """Yields the lines."""
        try:
            with self.path.open("rb") as file:
                for number, raw in enumerate(file, 1):
                    if number == 1:
                        raw = raw.removeprefix(codecs.BOM_UTF8)
                    yield self._decode(raw, number)
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror}.") from error

    def _decode(self, raw: bytes, number: int) -> str:
        try:
            line = raw.rstrip(b"\r\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.path}, line {number}: expected UTF-8, got byte "
                f"0x{error.object[error.start]:02x} at {error.start}. Convert "
                "the file."
            ) from error
        if "\0" in line:
            raise InputError(
                f"{self.path}, line {number}: a NUL byte. Expected text."
            )
        return line


@dataclass(frozen=True)
class Corpus:
    """The lines of each part, the version of their source if the text depends
    on it, and further facts to show.
    """

    name: str
    train: Iterable[str]
    valid: Iterable[str]
    test: Iterable[str] | None = None
    source: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def parts(self) -> dict[str, Iterable[str]]:
        """Returns the parts of the corpus by name."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in found.items() if part is not None}

    def facts(self) -> dict[str, Any]:
        """Returns the name, the source and the number of words of each part."""
        facts: dict[str, Any] = {"name": self.name}
        if self.source is not None:
            facts["source"] = self.source
        for name, part in self.parts().items():
            facts[f"{name}_words"] = count_words(part)
        return {**facts, **self.extra}


def count_words(lines: Iterable[str]) -> int:
    """Returns the number of words and ends of lines.

    Ends of lines are predicted like words, and WikiText's statistics include
    them.
    """
    return sum(len(line.split()) + 1 for line in lines)


def first_words(lines: Iterable[str], words: int | None) -> list[str]:
    """Returns the first lines with this many words, or all lines."""
    taken, count = [], 0
    for line in lines:
        if words is not None and count >= words:
            break
        taken.append(line)
        count += count_words([line])
    return taken


def load_files(
    train: Path, valid: Path, test: Path | None = None, name: str | None = None
) -> Corpus:
    """Reads a corpus with one text file per part."""
    paths = {"train": train, "valid": valid, "test": test}
    parts = {
        part: checked(LineFile(Path(path)))
        for part, path in paths.items()
        if path is not None
    }
    return Corpus(name=name or Path(train).name, **parts)


def load_wikitext(directory: Path) -> Corpus:
    """Reads WikiText's published files: `wiki.train.tokens` and so on."""
    paths = [Path(directory) / WIKITEXT.format(part) for part in PARTS]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise InputError(
            f"--data {directory}: no {', '.join(missing)}. Expected a "
            f"directory of {', '.join(path.name for path in paths)}, as "
            "WikiText is published."
        )
    return load_files(*paths, name=Path(directory).name)


def checked(lines: LineFile) -> LineFile:
    """Returns a file after checking that it is text and has words."""
    # An error should appear now, not in the middle of training.
    words = False
    for line in lines:
        words = words or bool(line.strip())
    if not words:
        raise InputError(f"{lines.path}: empty. Expected lines of text.")
    return lines


def load_topics(train_words: int | None = None) -> Corpus:
    """Returns CPython's reference topics, as `help()` prints them.

    Every installation of Python has them in `pydoc_data.topics`: about eighty
    chapters of the language reference, in English prose with grammar and code.

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
    for part in PARTS:
        for name in topics_of[part]:
            for paragraph in _paragraphs(topics[name]):
                key = " ".join(" ".join(paragraph).split())
                if key not in seen:
                    seen.add(key)
                    found[part].extend(paragraph)
    found["train"] = first_words(found["train"], train_words)
    return Corpus(
        name="Python reference topics",
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
