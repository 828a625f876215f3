"""Loss and perplexity of a text, by token and by word."""

from __future__ import annotations

import math
from dataclasses import asdict
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from reproduce.data.blocks import blocks_of
from reproduce.data.special_ids import PAD
from reproduce.data.vocabulary import Stream
from reproduce.decoding.compiled import compiled
from reproduce.models.language_model import LanguageModel

ops = keras.ops

# The number of log-probabilities in memory at a time: 128 MiB in float32.
HELD = 2**25


@dataclass(frozen=True)
class Perplexity:
    """The loss and the perplexities of a text.

    `nats` is the sum of the losses of all tokens. Tokens and words include the
    ends of lines.
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
            **asdict(self),
        }

    def __str__(self) -> str:
        return (
            f"perplexity {self.token_perplexity:.2f} by token, "
            f"{self.word_perplexity:.2f} by word ({self.loss:.4f} nats a "
            f"token, {self.tokens} tokens, {self.words} words)"
        )


class Measure:
    """A reusable function of a text, compiled only once.

    Args:
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
        self._nats = compiled(model, self._compute)

    def __call__(self, stream: Stream) -> Perplexity:
        """Returns the perplexity of a text, each token counted once."""
        blocks = blocks_of(stream.ids, self.block_size, self.context)
        total = 0.0
        for start in range(0, len(blocks.labels), self.batch_size):
            rows = (x[start : start + self.batch_size] for x in blocks)
            # Padding, which costs nothing, keeps the shape of all batches.
            nats = self._nats(*map(self._filled, rows))
            total += float(np.sum(nats, dtype="float64"))
        tokens = int(np.sum(blocks.labels != PAD))
        return Perplexity(total, tokens, stream.words)

    def _filled(self, rows: np.ndarray) -> np.ndarray:
        missing = ((0, self.batch_size - len(rows)), (0, 0))
        return np.pad(rows, missing, constant_values=PAD)

    def _compute(self, inputs, labels):
        hidden = self.model.hidden_states(inputs, training=False)
        nats = -token_log_probabilities(self.model, hidden, labels)
        return ops.where(labels == PAD, 0.0, nats)


def token_log_probabilities(
    model: LanguageModel, hidden: Any, labels: Any
) -> Any:
    """Returns the log-probabilities of labels, `(batch, time)`, in nats.

    The log-probabilities of the whole vocabulary exist for a few items at a
    time only.
    """
    held = max(HELD // model.vocabulary_size, 1)
    shape, width = ops.shape(labels), hidden.shape[-1]
    count = shape[0] * shape[1]
    if isinstance(count, int):
        held = min(held, count)
    chunks = -(-count // held)
    missing = chunks * held - count

    def chunked(x, *last):
        flat = ops.reshape(x, (-1, *last))
        flat = ops.concatenate([flat, ops.zeros((missing, *last), x.dtype)])
        return ops.reshape(flat, (chunks, held, *last))

    def one(chunk):
        hidden, labels = chunk
        logs = model.log_probabilities(hidden)
        return ops.take_along_axis(logs, labels[:, None], axis=-1)[:, 0]

    found = ops.map(one, (chunked(hidden, width), chunked(labels)))
    return ops.reshape(ops.reshape(found, (-1,))[:count], shape)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
