"""Sentences as the ids that batches are made of."""

from __future__ import annotations

import tensorflow as tf

from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.subwords import Subwords


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
