"""Vocabularies, and texts as one stream of ids with `EOS` after each line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.language_corpus import count_words
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import UNK
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import train_subwords
from reproduce.data.words import Words
from reproduce.data.words import learn_words

Vocabulary = Subwords | Words

FILES = {"subwords": "subwords.model", "words": "words.txt"}
# The number of lines tokenized at a time.
LINES = 4096
_END = np.array([EOS], "int32")


@dataclass(frozen=True)
class Stream:
    """The ids of all lines, and the number of words and ends of lines."""

    ids: np.ndarray
    words: int

    @property
    def unknown(self) -> int:
        """The number of unknown tokens."""
        return int(np.sum(self.ids == UNK))


def learn_vocabulary(
    lines: Iterable[str], kind: str, vocabulary_size: int | None
) -> Vocabulary:
    """Learns a vocabulary of a kind; without a size, of all words."""
    if kind == "words":
        return learn_words(lines, vocabulary_size)
    if vocabulary_size is None:
        raise InputError("--vocabulary subwords needs a --vocabulary-size.")
    return Subwords(train_subwords(lines, vocabulary_size))


def save_vocabulary(vocabulary: Vocabulary, directory: Path) -> None:
    """Writes the file that `load_vocabulary` reads."""
    kind = "words" if isinstance(vocabulary, Words) else "subwords"
    vocabulary.save(directory / FILES[kind])


def load_vocabulary(directory: Path) -> Vocabulary:
    """Reads the vocabulary of a run."""
    words, subwords = directory / FILES["words"], directory / FILES["subwords"]
    return Words.load(words) if words.exists() else Subwords.load(subwords)


def encode_lines(lines: Iterable[str], vocabulary: Vocabulary) -> Stream:
    """Returns the stream of a text."""
    lines = iter(lines)
    parts: list[np.ndarray] = []
    words = 0
    while chunk := list(itertools.islice(lines, LINES)):
        for ids in vocabulary.encode(chunk):
            parts += (ids, _END)
        words += count_words(chunk)
    if not parts:
        raise InputError("Expected lines of text, got none.")
    return Stream(np.concatenate(parts).astype("int32"), words)


def prompt_ids(
    texts: Sequence[str], vocabulary: Vocabulary, limit: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the input ids of prompts.

    A prompt may have several lines. Its last line has no `EOS`, because the
    model continues that line. The ids begin with `EOS`, the end of the
    previous line, as in training. Of longer prompts, the last `limit` ids are
    taken.

    Returns:
        The ids, `(batch, time)`, padded with `PAD`, and the number of ids of
        each prompt, `(batch,)`.
    """
    rows = []
    for text in texts:
        lines = vocabulary.encode(text.split("\n"))
        ids = np.concatenate([x for line in lines for x in (_END, line)])
        rows.append(ids if limit is None else ids[-limit:])
    lengths = np.array([len(row) for row in rows], "int32")
    padded = np.full((len(rows), lengths.max(initial=1)), PAD, "int32")
    for place, row in enumerate(rows):
        padded[place, : len(row)] = row
    return padded, lengths


def text_of(ids: np.ndarray, vocabulary: Vocabulary) -> str:
    """Returns the text of ids, with a line feed for each `EOS`."""
    ends = np.flatnonzero(ids == EOS)
    lines = (line[line != EOS] for line in np.split(ids, ends))
    return "\n".join(vocabulary.decode(lines))
