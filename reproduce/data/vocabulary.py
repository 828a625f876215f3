"""Vocabularies, and texts as one stream of ids with `EOS` after each line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

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

KINDS = ("subwords", "words")
FILES = {"subwords": "subwords.model", "words": "words.txt"}
# The number of lines tokenized at a time.
LINES = 4096


@dataclass(frozen=True)
class Stream:
    """The ids of a text.

    Attributes:
        ids: The ids of all lines in order, `(tokens,)`.
        words: The number of words and ends of lines that the ids encode.
    """

    ids: np.ndarray
    words: int

    @property
    def unknown(self) -> int:
        """The number of unknown tokens."""
        return int(np.sum(self.ids == UNK))


def learn_vocabulary(
    lines: Iterable[str], kind: str, vocabulary_size: int | None
) -> Vocabulary:
    """Learns a vocabulary from the training part.

    Args:
        lines: The training part.
        kind: One of `KINDS`.
        vocabulary_size: The number of ids. None keeps all words.

    Raises:
        InputError: If the size does not fit the text.
    """
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
    """Reads the vocabulary of a run.

    Raises:
        InputError: If the run has no vocabulary.
    """
    words, subwords = directory / FILES["words"], directory / FILES["subwords"]
    return Words.load(words) if words.exists() else Subwords.load(subwords)


def encode_lines(lines: Iterable[str], vocabulary: Vocabulary) -> Stream:
    """Returns the stream of a text.

    Raises:
        InputError: If the text is empty.
    """
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
    texts: tf.Tensor, vocabulary: Vocabulary, limit: int | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the input ids of prompts, for use in a `tf.function`.

    A prompt may have several lines. Its last line has no `EOS`, because the
    model continues that line. The ids begin with `EOS`, the end of the
    previous line, as in training.

    Args:
        texts: The prompts, `(batch,)`.
        vocabulary: The vocabulary of the model.
        limit: The maximum number of ids. Of longer prompts, the last ids are
            taken.

    Returns:
        The ids, `(batch, time)`, padded with `PAD`, and the number of ids of
        each prompt, `(batch,)`.
    """
    lines = tf.strings.split(texts, "\n")
    ids = vocabulary.tokenize(lines)
    ends = tf.fill([ids.values.nrows(), 1], EOS)
    ended = tf.concat([ends, ids.values], axis=1)
    merged = ids.with_values(ended).merge_dims(1, 2)
    if limit is not None:
        merged = merged[:, -limit:]
    return merged.to_tensor(PAD), tf.cast(merged.row_lengths(), tf.int32)


def text_of(
    ids: tf.Tensor, lengths: tf.Tensor, vocabulary: Vocabulary
) -> tf.Tensor:
    """Returns texts, with a line feed for each `EOS`.

    Args:
        ids: The ids, `(batch, time)`.
        lengths: The number of valid ids in each row, `(batch,)`.
        vocabulary: The vocabulary of the model.
    """

    def one(row):
        ids, length = row
        ids = ids[:length]
        is_end = ids == EOS
        line = tf.cumsum(tf.cast(is_end, tf.int32))
        kept = tf.boolean_mask(ids, ~is_end)
        lines = tf.RaggedTensor.from_value_rowids(
            kept,
            tf.boolean_mask(line, ~is_end),
            nrows=tf.reduce_max(tf.concat([[0], line], 0)) + 1,
        )
        texts = vocabulary.detokenize(lines)
        return tf.strings.reduce_join(texts, separator="\n")

    return tf.map_fn(
        one,
        (tf.cast(ids, tf.int32), tf.cast(lengths, tf.int32)),
        fn_output_signature=tf.TensorSpec([], tf.string),
    )


_END = np.array([EOS], "int32")
