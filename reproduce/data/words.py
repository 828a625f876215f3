"""A vocabulary of whole words, the most frequent first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.special_ids import UNK

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
UNKNOWN = SPECIAL[UNK]


class Words:
    """Converts texts to word ids and back.

    It has the interface of `reproduce.data.subwords.Subwords`. Words are
    separated by spaces. Unknown words become `UNK`, as does `<unk>`, WikiText's
    mark of an unknown word.

    Args:
        words: The words, the most frequent first.
    """

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self.known = (*SPECIAL, *self.words)
        self.vocabulary_size = len(self.known)
        self._ids = {word: i for i, word in enumerate(self.words, len(SPECIAL))}

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Returns the text of each row of ids."""
        return [" ".join(self.known[id_] for id_ in row) for row in rows]

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

    The number of ids includes the four special ids. Without it, all words are
    kept.
    """
    counts = Counter(word for line in lines for word in line.split())
    del counts[UNKNOWN]
    if not counts:
        raise InputError("Expected words to learn, got none.")
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    if vocabulary_size is not None:
        ordered = ordered[: max(vocabulary_size - len(SPECIAL), 1)]
    return Words(ordered)
