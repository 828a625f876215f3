"""A vocabulary of whole words, the most frequent first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.data.special_ids import UNK

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
UNKNOWN = SPECIAL[UNK]
# The characters at which Python's `str.split` splits.
SPACE = r"[\s\x{0b}\x{1c}-\x{1f}\x{85}\p{Z}]+"


class Words(tf.Module):
    """Converts texts to word ids and back.

    It has the interface of `reproduce.data.subwords.Subwords`. Words are
    separated by spaces. Unknown words become `UNK`, as does `<unk>`, WikiText's
    mark of an unknown word.

    Args:
        words: The words, the most frequent first.
    """

    def __init__(self, words: Sequence[str]):
        super().__init__()
        self.words = tuple(words)
        known = (*SPECIAL, *self.words)
        self.vocabulary_size = len(known)
        self._ids = {word: i for i, word in enumerate(self.words, len(SPECIAL))}
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.constant(self.words, tf.string),
                tf.range(len(SPECIAL), len(known)),
            ),
            default_value=UNK,
        )
        self._known = tf.Variable(tf.constant(known), trainable=False)

    def tokenize(self, texts: tf.Tensor | tf.RaggedTensor) -> tf.RaggedTensor:
        """Returns the ids of each text, along a new last axis."""
        if isinstance(texts, tf.RaggedTensor):
            return texts.with_values(self.tokenize(texts.values))
        spaced = tf.strings.regex_replace(texts, SPACE, " ")
        words = tf.strings.split(tf.strings.strip(spaced), " ")
        # Splitting an empty text gives one empty word.
        words = tf.ragged.boolean_mask(words, words != "")
        return words.with_values(self._table.lookup(words.values))

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the word of each id."""
        return tf.gather(self._known, ids)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row of ids."""
        words = ids.with_values(self.pieces(ids.values))
        return tf.strings.reduce_join(words, axis=-1, separator=" ")

    def encode(self, texts: Iterable[str]) -> list[np.ndarray]:
        """Returns the ids of each text."""
        get = self._ids.get
        return [
            np.array([get(word, UNK) for word in text.split()], "int32")
            for text in texts
        ]

    def save(self, path: Path) -> None:
        """Writes the words, one a line."""
        Path(path).write_text(
            "".join(f"{word}\n" for word in self.words), encoding="utf-8"
        )

    @classmethod
    def load(cls, path: Path) -> Words:
        """Reads a file that `save` wrote."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}.") from error
        return cls(text.split("\n")[:-1])


def learn_words(
    lines: Iterable[str], vocabulary_size: int | None = None
) -> Words:
    """Returns the words of a text by frequency, ties in alphabetical order.

    Args:
        lines: The training text.
        vocabulary_size: The number of ids, the four special ids included. None
            keeps all words.

    Raises:
        InputError: If there are no words.
    """
    counts = Counter(word for line in lines for word in line.split())
    del counts[UNKNOWN]
    if not counts:
        raise InputError("Expected words to learn, got none.")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    if vocabulary_size is not None:
        ordered = ordered[: max(vocabulary_size - len(SPECIAL), 1)]
    return Words(ordered)
