"""SentencePiece BPE subwords.

Text is not normalized. SentencePiece's default, NFKC, would turn "km²" into
"km2", but scores are computed on the original text. Only spaces change: leading
and trailing spaces are removed, and runs of spaces become one.

A character that is not in the training text becomes `UNK`, which is written as
"⁇". A fallback to bytes would take 256 ids, half of a small vocabulary.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece

from reproduce.common.errors import InputError
from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import SPECIAL_IDS
from reproduce.data.special_ids import UNK
from reproduce.data.special_ids import SpecialIds


class Subwords:
    """Converts texts to subword ids and back, by a serialized SentencePiece
    model with the special ids of `reproduce.data.special_ids`.
    """

    bos = BOS

    def __init__(self, proto: bytes, special: SpecialIds = SPECIAL_IDS):
        self._processor = _checked(proto)
        self.proto = proto
        self.special = special
        self.vocabulary_size = self._processor.get_piece_size()

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, without BOS and EOS."""
        return [
            np.array(ids, "int32")
            for ids in self._processor.encode(list(texts))
        ]

    def decode(self, rows: Iterable[Sequence[int]]) -> list[str]:
        """Returns the text of each row of ids without special ids."""
        return [
            self._processor.decode([int(id_) for id_ in row]) for row in rows
        ]

    def pieces(self) -> list[str]:
        """Returns the pieces of all ids that are not special, in order."""
        ids = range(UNK + 1, self.vocabulary_size)
        return [self._processor.id_to_piece(id_) for id_ in ids]

    def save(self, path: Path) -> None:
        """Writes the model file, which SentencePiece's programs can read."""
        Path(path).write_bytes(self.proto)

    @classmethod
    def load(cls, path: Path, special: SpecialIds = SPECIAL_IDS) -> Subwords:
        """Reads a file that `save` wrote."""
        try:
            return cls(Path(path).read_bytes(), special)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}.") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error.__cause__


def subwords_of(
    text: ParallelText, vocabulary_size: int, joint: bool = True
) -> tuple[Subwords, Subwords]:
    """Trains the subwords of sources and targets, one object if `joint`."""
    sides = (text.sources, text.targets)
    if joint:
        sides = (text.sources + text.targets,)
    found = [Subwords(train_subwords(side, vocabulary_size)) for side in sides]
    return found[0], found[-1]


def encode_pairs(
    text: ParallelText, source: Subwords, target: Subwords
) -> EncodedPairs:
    """Tokenizes a part of a corpus, once for all epochs."""
    return EncodedPairs(
        tuple(source.encode(text.sources)), tuple(target.encode(text.targets))
    )


def train_subwords(texts: Sequence[str], vocabulary_size: int) -> bytes:
    """Returns a SentencePiece BPE model, trained deterministically.

    Every character of the texts gets an id. If the texts have fewer subwords,
    the model is smaller and a warning is issued.
    """
    characters = set().union(*texts) - {" "}
    if not characters:
        raise InputError("Expected texts to learn subwords from, got none.")
    # Four special ids, and the symbol for a space.
    least = len(characters) + 5
    if vocabulary_size < least:
        raise InputError(
            f"A vocabulary of {vocabulary_size} is too small for the "
            f"{len(characters)} characters of the training text. Give at "
            f"least {least}."
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocabulary_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        pad_id=PAD,
        bos_id=BOS,
        eos_id=EOS,
        unk_id=UNK,
        # SentencePiece silently skips longer texts; its minimum is 10.
        max_sentence_length=max(10, *(len(text.encode()) for text in texts)),
        # With several threads the model is not deterministic.
        num_threads=1,
        minloglevel=2,
    )
    proto = model.getvalue()
    found = sentencepiece.SentencePieceProcessor(model_proto=proto)
    if found.get_piece_size() < vocabulary_size:
        warnings.warn(
            f"The training text has only {found.get_piece_size()} subwords. "
            f"Asked for: {vocabulary_size}."
        )
    return proto


def _checked(proto: bytes) -> sentencepiece.SentencePieceProcessor:
    try:
        if not proto:
            raise RuntimeError("empty")
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        raise InputError("not a SentencePiece model.") from error
    ids = (
        processor.pad_id(),
        processor.bos_id(),
        processor.eos_id(),
        processor.unk_id(),
    )
    if ids != (PAD, BOS, EOS, UNK):
        raise InputError(
            f"Expected the ids {PAD}, {BOS}, {EOS}, {UNK} for padding, begin, "
            f"end and unknown. Got {', '.join(map(str, ids))}: train the "
            "model with them."
        )
    return processor
