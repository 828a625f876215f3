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
# What Python's `str.split` takes for space.
SPACE = r"[\s\x{0b}\x{1c}-\x{1f}\x{85}\p{Z}]+"


class Words(tf.Module):
    """Turns texts into ids of their words and back.

    Used as `reproduce.data.subwords.Subwords`. Words are what stands between
    spaces; those it does not know become `UNK`, as does `<unk>`, which stands
    for them in WikiText.

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
        """Returns the ids of each text, in one more dimension."""
        if isinstance(texts, tf.RaggedTensor):
            return texts.with_values(self.tokenize(texts.values))
        spaced = tf.strings.regex_replace(texts, SPACE, " ")
        words = tf.strings.split(tf.strings.strip(spaced), " ")
        # An empty text has one word, which is empty.
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
        """Reads what `save` wrote."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: {error}.") from error
        return cls(text.split("\n")[:-1])


def learn_words(
    lines: Iterable[str], vocabulary_size: int | None = None
) -> Words:
    """Returns the words of a text, those of the same frequency in order.

    Args:
        lines: What to learn from.
        vocabulary_size: How many ids, the four special ones included, or None
            for all words.

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
