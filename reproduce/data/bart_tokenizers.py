"""Tokenizers for BART: subwords trained on the data, or a preset's byte pairs.

BART's encoder reads `<s> text </s>`. Its decoder starts with `</s>` and has to
generate `<s>`, the summary and `</s>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import keras_hub
import numpy as np

from reproduce.common.errors import InputError
from reproduce.data.parallel_text import ParallelText
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import SpecialIds
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import train_subwords

SUBWORDS = "subwords.model"
BYTE_PAIRS = "tokenizer"
SPECIAL = SpecialIds(PAD, EOS, EOS)


class BytePairs:
    """KerasHub's tokenizer of BART, with the interface of `Subwords`."""

    def __init__(self, tokenizer: keras_hub.models.BartTokenizer):
        self.tokenizer = tokenizer
        self.bos = tokenizer.start_token_id
        end = tokenizer.end_token_id
        self.special = SpecialIds(tokenizer.pad_token_id, end, end)
        self.vocabulary_size = tokenizer.vocabulary_size()
        # For vocabularies without all bytes, which BART's own is not.
        self.unknown = tokenizer.vocabulary.get("<unk>", self.bos)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, without special ids."""
        # A text may contain "</s>" literally, which is not the special token.
        special = [self.bos, *self.special]
        rows = self.tokenizer.tokenize(list(texts)) if texts else []
        rows = [np.asarray(row, "int32") for row in rows]
        rows = [np.where(row < 0, np.int32(self.unknown), row) for row in rows]
        return [row[~np.isin(row, special)] for row in rows]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Returns the text of each row of ids without special ids."""
        rows = [[int(id_) for id_ in row] for row in rows]
        # The first word may have a leading space.
        return [
            self.tokenizer.detokenize(row).strip() if row else ""
            for row in rows
        ]

    def save(self, folder: Path) -> None:
        """Writes the files that `load_tokenizer` reads."""
        folder.mkdir(exist_ok=True)
        self.tokenizer.save_assets(str(folder))


Tokenizer = Subwords | BytePairs


def train_tokenizer(text: ParallelText, vocabulary_size: int) -> Subwords:
    """Trains subwords on articles and summaries together."""
    texts = text.sources + text.targets
    return Subwords(train_subwords(texts, vocabulary_size), SPECIAL)


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Writes the files that `load_tokenizer` reads."""
    is_subwords = isinstance(tokenizer, Subwords)
    tokenizer.save(directory / (SUBWORDS if is_subwords else BYTE_PAIRS))


def load_tokenizer(directory: Path) -> Tokenizer:
    """Reads the files that `save_tokenizer` wrote."""
    folder = directory / BYTE_PAIRS
    if not folder.is_dir():
        return Subwords.load(directory / SUBWORDS, SPECIAL)
    try:
        return BytePairs(
            keras_hub.models.BartTokenizer(
                vocabulary=str(folder / "vocabulary.json"),
                merges=str(folder / "merges.txt"),
            )
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: not BART's tokenizer ({error}).") from (
            error
        )


def encode(
    tokenizer: Tokenizer, texts: Sequence[str], longest: int
) -> tuple[list[np.ndarray], int]:
    """Returns ids that begin with `<s>`, and the number of texts that were cut.

    A text of more than `longest` ids, `<s>` and `</s>` included, is cut.
    """
    rows = tokenizer.encode(texts)
    first = np.array([tokenizer.bos], "int32")
    return (
        [np.concatenate([first, row[: longest - 2]]) for row in rows],
        sum(len(row) > longest - 2 for row in rows),
    )
