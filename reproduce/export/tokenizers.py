"""The tokenizers of `reproduce.data`, inside a TensorFlow graph."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tensorflow_text

from reproduce.data.bart_tokenizers import BytePairs
from reproduce.data.special_ids import UNK
from reproduce.data.subwords import Subwords
from reproduce.data.words import SPECIAL
from reproduce.data.words import Words

# The characters at which Python's `str.split` splits.
SPACE = r"[\s\x{0b}\x{1c}-\x{1f}\x{85}\p{Z}]+"


class GraphSubwords(tf.Module):
    """`Subwords` for a graph."""

    def __init__(self, subwords: Subwords):
        super().__init__()
        self._tokenizer = tensorflow_text.SentencepieceTokenizer(
            subwords.proto, out_type=tf.int32
        )
        self.resource = self

    def tokenize(self, texts: Any) -> tf.RaggedTensor:
        """Returns the ids of each text, along a new last axis."""
        return self._tokenizer.tokenize(texts)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        """Returns the text of each row of ids without special ids."""
        return self._tokenizer.detokenize(ids)

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        """Returns the subword of each id."""
        return self._tokenizer.id_to_string(ids)


class GraphWords(tf.Module):
    """`Words` for a graph; see `GraphSubwords` for the methods."""

    def __init__(self, words: Words):
        super().__init__()
        ids = tf.range(len(SPECIAL), len(words.known))
        rows = tf.lookup.KeyValueTensorInitializer(
            tf.constant(words.words, tf.string), ids
        )
        self._table = tf.lookup.StaticHashTable(rows, default_value=UNK)
        self._known = tf.Variable(tf.constant(words.known), trainable=False)
        self.resource = self

    def tokenize(self, texts: Any) -> tf.RaggedTensor:
        if isinstance(texts, tf.RaggedTensor):
            return texts.with_values(self.tokenize(texts.values))
        spaced = tf.strings.regex_replace(texts, SPACE, " ")
        words = tf.strings.split(tf.strings.strip(spaced), " ")
        # Splitting an empty text gives one empty word.
        words = tf.ragged.boolean_mask(words, words != "")
        return words.with_values(self._table.lookup(words.values))

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        words = ids.with_values(self.pieces(ids.values))
        return tf.strings.reduce_join(words, axis=-1, separator=" ")

    def pieces(self, ids: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._known, ids)


class GraphBytePairs:
    """`BytePairs` for a graph; see `GraphSubwords` for the methods."""

    def __init__(self, pairs: BytePairs):
        self._pairs = pairs
        self.resource = pairs.tokenizer
        if not self.resource.built:
            # Keras does not export a layer that was never built.
            self.resource.build(None)

    def tokenize(self, texts: Any) -> tf.RaggedTensor:
        pairs = self._pairs
        ids = tf.cast(self.resource.tokenize(texts), tf.int32)
        ids = ids.with_flat_values(
            tf.where(ids.flat_values < 0, pairs.unknown, ids.flat_values)
        )
        special = tf.constant([pairs.bos, *pairs.special])
        wanted = tf.reduce_all(ids.flat_values[:, None] != special, axis=1)
        return tf.ragged.boolean_mask(ids, ids.with_flat_values(wanted))

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        texts = tf.strings.strip(self.resource.detokenize(ids))
        # The last byte pair may end within a character if the text was cut at
        # the maximum length.
        return tf.strings.unicode_transcode(
            texts, "UTF-8", "UTF-8", errors="replace"
        )


GRAPHS = {Subwords: GraphSubwords, Words: GraphWords, BytePairs: GraphBytePairs}


def graph_of(tokenizer: Any) -> Any:
    """Returns a tokenizer for a graph that gives the same ids."""
    return GRAPHS[type(tokenizer)](tokenizer)


def text_ids(
    graph: Any,
    texts: Any,
    begin: tuple[int, ...],
    longest: int | None,
    end: int,
) -> tf.RaggedTensor:
    """Returns the ids of texts, between a beginning and an end."""
    ids = graph.tokenize(texts)
    if longest is not None:
        ids = ids[:, : longest - 2]
    rows = ids.nrows()
    first = tf.tile(tf.constant([begin], tf.int32), [rows, 1])
    return tf.concat([first, ids, tf.fill([rows, 1], end)], axis=1)


def generated_texts(
    graph: Any, ids: tf.Tensor, special: Any, bos: int
) -> tf.Tensor:
    """Returns the text of each row of generated ids, up to its first end."""
    pad, _, end = special
    ended = tf.cumsum(tf.cast(ids == end, tf.int32), axis=1) > 0
    wanted = ~ended & (ids != pad) & (ids != bos)
    return graph.detokenize(tf.ragged.boolean_mask(ids, wanted))
