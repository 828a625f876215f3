"""Tokenizers for BART: subwords trained on the data, or a preset's byte pairs.

BART's encoder reads `<s> text </s>`. Its decoder starts with `</s>` and has to
generate `<s>`, the summary and `</s>`.
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
# The number of articles tokenized at a time, which bounds the memory use.
TOKENIZED_TEXTS = 1024


class Tokenizer(Protocol):
    """Converts texts to ids and back, also inside an exported `tf.function`.

    Attributes:
        bos: The id of `<s>`.
        special: The ids of padding and of `</s>`, which is start and end.
        vocabulary_size: The number of ids.
        resource: The object that an export has to track.
        traced: `tokenize` as a `tf.function`, traced once.
    """

    bos: int
    special: SpecialIds
    vocabulary_size: int
    resource: Any
    traced: Any

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns the int32 ids of each text, without special ids."""

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row of ids without special ids."""

    def save(self, directory: Path) -> None:
        """Writes the files that `load_tokenizer` reads."""


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
        """See `Tokenizer`."""
        return self.resource.tokenize(texts)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """See `Tokenizer`."""
        return self.resource.detokenize(ids)

    def save(self, directory: Path) -> None:
        """See `Tokenizer`."""
        self.resource.save(directory / SUBWORDS)


class BytePairTokenizer:
    """KerasHub's tokenizer of BART."""

    def __init__(self, tokenizer: keras_hub.models.BartTokenizer):
        if not tokenizer.built:
            # Keras does not export a layer that was never built.
            tokenizer.build(None)
        self.resource = tokenizer
        self.bos = tokenizer.start_token_id
        end = tokenizer.end_token_id
        self.special = SpecialIds(tokenizer.pad_token_id, end, end)
        self.vocabulary_size = tokenizer.vocabulary_size()
        self._unknown = tokenizer.vocabulary.get("<unk>", self.bos)
        # Traced, as in serving: outside a graph, KerasHub's tokenizer splits
        # some texts differently.
        self.traced = _traced(self.tokenize)

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """See `Tokenizer`."""
        ids = tf.cast(self.resource.tokenize(texts), tf.int32)
        # A vocabulary without all bytes gives -1 for unknown words. BART's own
        # vocabulary has all bytes.
        ids = ids.with_flat_values(
            tf.where(ids.flat_values < 0, self._unknown, ids.flat_values)
        )
        # A text may contain "</s>" literally, which is not the special token.
        special = tf.constant([self.bos, *self.special])
        wanted = tf.reduce_all(ids.flat_values[:, None] != special, axis=1)
        return tf.ragged.boolean_mask(ids, ids.with_flat_values(wanted))

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """See `Tokenizer`."""
        # The first word may have a leading space. The last byte pair may end
        # within a character if the text was cut at the maximum length.
        texts = tf.strings.strip(self.resource.detokenize(ids))
        return tf.strings.unicode_transcode(
            texts, "UTF-8", "UTF-8", errors="replace"
        )

    def save(self, directory: Path) -> None:
        """See `Tokenizer`."""
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
    """Reads the files that `save` wrote.

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
    """Returns the ids of texts as they are in batches, without `</s>`.

    Args:
        tokenizer: The tokenizer.
        texts: The texts.
        longest: The maximum number of ids of a text, `<s>` and `</s>`
            included. Longer texts are cut at the end.

    Returns:
        The ids, beginning with `<s>`, and the number of texts that were cut.
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
    """Prepends `<s>` to ids and cuts long texts, leaving room for `</s>`."""
    first = tf.fill([ids.nrows(), 1], tokenizer.bos)
    return tf.concat([first, ids[:, : longest - 2]], axis=1)


def source_ids(
    tokenizer: Tokenizer, texts: tf.Tensor, longest: int
) -> tf.Tensor:
    """Returns the `source_ids` of texts, padded to the longest text.

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
