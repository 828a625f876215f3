"""Loss and perplexity of a text, by token and by word."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from reproduce.data.blocks import scoring_blocks
from reproduce.data.special_ids import PAD
from reproduce.data.vocabulary import Stream
from reproduce.models.language_model import LanguageModel

# The number of log-probabilities in memory at a time: 128 MiB in float32.
HELD = 2**25


@dataclass(frozen=True)
class Perplexity:
    """The loss and the perplexities of a text.

    Attributes:
        nats: The sum of the losses of all tokens.
        tokens: The number of predicted tokens, ends of lines included.
        words: The number of words and ends of lines that the tokens encode.
    """

    nats: float
    tokens: int
    words: int

    @property
    def loss(self) -> float:
        """The mean loss of a token, in nats."""
        return self.nats / self.tokens

    @property
    def token_perplexity(self) -> float:
        """`exp(nats / tokens)`, which depends on the vocabulary."""
        return _exp(self.loss)

    @property
    def word_perplexity(self) -> float:
        """`exp(nats / words)`, which is comparable between vocabularies."""
        return _exp(self.nats / self.words)

    def as_dict(self) -> dict[str, Any]:
        """Returns all values, ready for JSON."""
        return {
            "loss": self.loss,
            "token_perplexity": self.token_perplexity,
            "word_perplexity": self.word_perplexity,
            "nats": self.nats,
            "tokens": self.tokens,
            "words": self.words,
        }

    def __str__(self) -> str:
        return (
            f"perplexity {self.token_perplexity:.2f} by token, "
            f"{self.word_perplexity:.2f} by word ({self.loss:.4f} nats a "
            f"token, {self.tokens} tokens, {self.words} words)"
        )


class Measure:
    """A reusable function of a text, traced only once.

    Args:
        model: The model.
        block_size: The number of tokens that the model sees at once.
        context: The number of these tokens that are only context, taken from
            the end of the previous block.
        batch_size: The number of blocks in a batch.
    """

    def __init__(
        self,
        model: LanguageModel,
        block_size: int,
        context: int = 0,
        batch_size: int = 8,
    ):
        self.model = model
        self.block_size = block_size
        self.context = context
        self.batch_size = batch_size
        spec = tf.TensorSpec([None, block_size], tf.int32)
        self._nats = tf.function(self._compute, input_signature=[spec, spec])

    def __call__(self, stream: Stream) -> Perplexity:
        """Returns the perplexity of a text, each token counted once."""
        blocks = scoring_blocks(stream.ids, self.block_size, self.context)
        total, tokens = 0.0, 0
        for start in range(0, len(blocks), self.batch_size):
            chosen = slice(start, start + self.batch_size)
            nats = self._nats(blocks.inputs[chosen], blocks.labels[chosen])
            total += float(np.sum(nats.numpy(), dtype="float64"))
            tokens += len(nats)
        return Perplexity(total, tokens, stream.words)

    def _compute(self, inputs, labels):
        hidden = self.model.hidden_states(inputs, training=False)
        counted = labels != PAD
        return -token_log_probabilities(
            self.model,
            tf.boolean_mask(hidden, counted),
            tf.boolean_mask(labels, counted),
        )


def token_log_probabilities(
    model: LanguageModel, hidden: tf.Tensor, labels: tf.Tensor
) -> tf.Tensor:
    """Returns the log-probabilities of labels, `(items,)`, in nats.

    The log-probabilities of the whole vocabulary exist for a few items at a
    time only.

    Args:
        model: The model.
        hidden: The hidden states, `(items, width)`.
        labels: The labels, `(items,)`.
    """
    held = max(HELD // model.vocabulary_size, 1)
    count = tf.shape(labels)[0]
    chunks = -(-count // held)

    def one(chunk):
        start, end = chunk * held, tf.minimum((chunk + 1) * held, count)
        logs = model.log_probabilities(hidden[start:end])
        found = tf.gather(logs, labels[start:end], batch_dims=1)
        return tf.pad(found, [[0, held - (end - start)]])

    found = tf.map_fn(
        one,
        tf.range(chunks),
        fn_output_signature=tf.TensorSpec([held], tf.float32),
        parallel_iterations=1,
    )
    return tf.reshape(found, [-1])[:count]


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
