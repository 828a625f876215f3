"""Subwords: SentencePiece BPE, in Python, in tf.data and in SavedModels.

Text is not normalized. SentencePiece's usual NFKC would make "km2" of "km²",
and scores are computed on the text as it is written. Only the spaces change:
those at the ends go, and several become one.

A character that training did not show becomes `UNK`, which is written as "⁇".
Falling back to bytes would spend 256 ids on them, half of a small vocabulary.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text

from reproduce.common.errors import InputError
from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.special_ids import UNK


class Subwords(tf.Module):
    """Turns texts into subword ids and back.

    It can be used inside a `tf.function`, also one that is exported: it is
    tracked like a layer. `keras.utils.clear_session` frees it.

    Args:
        proto: A SentencePiece model, as `train_subwords` returns it, or any
            other with the ids of `reproduce.data.special_ids`.

    Raises:
        InputError: If it is no SentencePiece model, or has other ids.
    """

    def __init__(self, proto: bytes):
        super().__init__()
        self._processor = _checked(proto)
        self.proto = proto
        self.tokenizer = tensorflow_text.SentencepieceTokenizer(
            proto, out_type=tf.int32
        )
        self.vocabulary_size = int(self.tokenizer.vocab_size())

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of each text in a vector, without BOS and EOS."""
        return self.tokenizer.tokenize(texts)

    def detokenize(self, ids: tf.Tensor | tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row up to its first EOS."""
        if isinstance(ids, tf.RaggedTensor):
            ids = ids.to_tensor(PAD)
        ids = tf.cast(ids, tf.int32)
        ended = tf.cumsum(tf.cast(ids == EOS, tf.int32), axis=1) > 0
        wanted = ~ended & (ids != PAD) & (ids != BOS)
        return self.tokenizer.detokenize(tf.ragged.boolean_mask(ids, wanted))

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the subword of each id."""
        return self.tokenizer.id_to_string(ids)

    def encode(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the ids of each text, without BOS and EOS."""
        return [
            np.array(ids, "int32")
            for ids in self._processor.encode(list(texts))
        ]

    def save(self, path: Path) -> None:
        """Writes the model, which SentencePiece's own programs read too."""
        Path(path).write_bytes(self.proto)

    @classmethod
    def load(cls, path: Path) -> Subwords:
        """Reads what `save` wrote."""
        try:
            return cls(Path(path).read_bytes())
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}.") from error
        except InputError as error:
            raise InputError(f"{path}: {error}") from error.__cause__


def subwords_of(
    text: ParallelText, vocabulary_size: int, joint: bool = True
) -> tuple[Subwords, Subwords]:
    """Trains the subwords of sources and targets.

    Args:
        text: The training part of a corpus.
        vocabulary_size: How many ids.
        joint: Whether both sides share one model, or have one each, of this
            size each.

    Returns:
        Those of the sources and those of the targets; the same twice if joint.
    """
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


def source_ids(texts: tf.Tensor, subwords: Subwords) -> tf.Tensor:
    """Returns the `source_ids` of texts as in batches, padded to the longest.

    For use in a `tf.function` that translates.
    """
    ids = subwords.tokenize(texts)
    ends = tf.fill([ids.nrows(), 1], EOS)
    return tf.concat([ids, ends], axis=1).to_tensor(PAD)


def train_subwords(texts: Sequence[str], vocabulary_size: int) -> bytes:
    """Trains a SentencePiece BPE model, the same one for the same texts.

    Args:
        texts: What to learn from. Every character in it gets an id.
        vocabulary_size: How many ids, the four special ones included. If the
            texts do not have so many subwords, there are fewer, with a
            warning.

    Returns:
        The model, as its file holds it.

    Raises:
        InputError: If there are more characters than ids, or no text at all.
    """
    characters = set().union(*texts) - {" "}
    if not characters:
        raise InputError("Expected texts to learn subwords from, got none.")
    # The fifth is the sign for a space.
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
        # Longer ones would be left out without a word, and 10 is its least.
        max_sentence_length=max(10, *(len(text.encode()) for text in texts)),
        # Several threads need not come to the same model.
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
        processor = sentencepiece.SentencePieceProcessor(model_proto=proto)
        size = processor.get_piece_size() if proto else 0
    except RuntimeError as error:
        raise InputError("not a SentencePiece model.") from error
    if size == 0:
        raise InputError("not a SentencePiece model.")
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
