"""Texts as BART's ids: subwords trained on the data, or a preset's byte pairs.

BART's encoder reads `<s> text </s>`. Its decoder starts with `</s>`, is to say
`<s>` first, then the summary, and `</s>` again.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from typing import Protocol

import keras_hub
import numpy as np
import tensorflow as tf

from reproduce.common.errors import InputError
from reproduce.data import special_ids
from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import train_subwords
from reproduce.decoding.beam_search import SpecialIds

SUBWORDS = "subwords.model"
BYTE_PAIRS = "tokenizer"
# Articles tokenized at a time, which bounds the memory that takes.
TOKENIZED_TEXTS = 1024


class Tokenizer(Protocol):
    """Turns texts into ids and back, also inside an exported `tf.function`.

    Attributes:
        bos: The id of `<s>`.
        special: Those of padding and of `</s>`, which is start and end.
        vocabulary_size: How many ids there are.
        resource: What an export has to track.
        traced: `tokenize` as a `tf.function`, traced once.
    """

    bos: int
    special: SpecialIds
    vocabulary_size: int
    resource: Any
    traced: Any

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the ids of each text, none of them special, int32."""

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row, of which no id is special."""

    def save(self, directory: Path) -> None:
        """Writes what `load_tokenizer` reads."""


class SubwordTokenizer:
    """SentencePiece subwords; see `reproduce.data.subwords`."""

    def __init__(self, subwords: Subwords):
        self.resource = subwords
        self.bos = special_ids.BOS
        end = special_ids.EOS
        self.special = SpecialIds(special_ids.PAD, end, end)
        self.vocabulary_size = subwords.vocabulary_size
        self.traced = _traced(self.tokenize)

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """As `Tokenizer` says."""
        return self.resource.tokenize(texts)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """As `Tokenizer` says."""
        return self.resource.detokenize(ids)

    def save(self, directory: Path) -> None:
        """As `Tokenizer` says."""
        self.resource.save(directory / SUBWORDS)


class BytePairTokenizer:
    """KerasHub's tokenizer of BART."""

    def __init__(self, tokenizer: keras_hub.models.BartTokenizer):
        if not tokenizer.built:
            # Keras exports no layer that was never called.
            tokenizer.build(None)
        self.resource = tokenizer
        self.bos = tokenizer.start_token_id
        end = tokenizer.end_token_id
        self.special = SpecialIds(tokenizer.pad_token_id, end, end)
        self.vocabulary_size = tokenizer.vocabulary_size()
        self._unknown = tokenizer.vocabulary.get("<unk>", self.bos)
        # As where it serves: outside of a graph, KerasHub's tokenizer splits
        # some texts elsewhere.
        self.traced = _traced(self.tokenize)

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """As `Tokenizer` says."""
        ids = tf.cast(self.resource.tokenize(texts), tf.int32)
        # Of words that are in no vocabulary of bytes: there are none in BART's.
        ids = ids.with_flat_values(
            tf.where(ids.flat_values < 0, self._unknown, ids.flat_values)
        )
        # A text may name them, "</s>" for instance, and does not mean them.
        special = tf.constant([self.bos, *self.special])
        wanted = tf.reduce_all(ids.flat_values[:, None] != special, axis=1)
        return tf.ragged.boolean_mask(ids, ids.with_flat_values(wanted))

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """As `Tokenizer` says."""
        # The first word may have a space before it; the last byte pair may
        # end within a character, where the greatest length cut it off.
        texts = tf.strings.strip(self.resource.detokenize(ids))
        return tf.strings.unicode_transcode(
            texts, "UTF-8", "UTF-8", errors="replace"
        )

    def save(self, directory: Path) -> None:
        """As `Tokenizer` says."""
        folder = directory / BYTE_PAIRS
        folder.mkdir(exist_ok=True)
        self.resource.save_assets(str(folder))


def train_tokenizer(
    text: ParallelText, vocabulary_size: int
) -> SubwordTokenizer:
    """Trains subwords on articles and summaries together."""
    proto = train_subwords(text.sources + text.targets, vocabulary_size)
    return SubwordTokenizer(Subwords(proto))


def load_tokenizer(directory: Path) -> Tokenizer:
    """Reads what `save` wrote.

    Raises:
        InputError: If there is no tokenizer, or it cannot be read.
    """
    folder = directory / BYTE_PAIRS
    if not folder.is_dir():
        return SubwordTokenizer(Subwords.load(directory / SUBWORDS))
    try:
        return BytePairTokenizer(
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
    """Returns the ids of texts as batches have them, without the end.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.
        longest: How many ids a text may have with `<s>` and `</s>`; what is
            more is cut off at its end.

    Returns:
        The ids, beginning with `<s>`, and how many texts were cut.
    """
    encoded, cut = [], 0
    for start in range(0, len(texts), TOKENIZED_TEXTS):
        batch = tf.constant(list(texts[start : start + TOKENIZED_TEXTS]))
        ids = tokenizer.traced(batch)
        cut += int(np.count_nonzero(ids.row_lengths() > longest - 2))
        ids = begin(tokenizer, ids, longest)
        encoded += np.split(ids.flat_values.numpy(), ids.row_splits[1:-1])
    return encoded, cut


def _traced(tokenize: Callable[[tf.Tensor], tf.RaggedTensor]) -> Any:
    return tf.function(
        tokenize, input_signature=[tf.TensorSpec([None], tf.string)]
    )


def begin(
    tokenizer: Tokenizer, ids: tf.RaggedTensor, longest: int
) -> tf.RaggedTensor:
    """Puts `<s>` before ids and cuts what is longer, room for `</s>` left."""
    first = tf.fill([ids.nrows(), 1], tokenizer.bos)
    return tf.concat([first, ids[:, : longest - 2]], axis=1)


def source_ids(
    tokenizer: Tokenizer, texts: tf.Tensor, longest: int
) -> tf.Tensor:
    """Returns the `source_ids` of texts as in batches, padded to the longest.

    For use in a `tf.function` that summarizes.
    """
    ids = begin(tokenizer, tokenizer.tokenize(texts), longest)
    pad, _, end = tokenizer.special
    ends = tf.fill([ids.nrows(), 1], end)
    return tf.concat([ids, ends], axis=1).to_tensor(pad)


def summary_texts(tokenizer: Tokenizer, ids: tf.Tensor) -> tf.Tensor:
    """Returns the text of each row of generated ids, up to its first end."""
    pad, _, end = tokenizer.special
    ended = tf.cumsum(tf.cast(ids == end, tf.int32), axis=1) > 0
    wanted = ~ended & (ids != pad) & (ids != tokenizer.bos)
    return tokenizer.detokenize(tf.ragged.boolean_mask(ids, wanted))
