"""Perplexity on held-out text after every epoch."""

from __future__ import annotations

from typing import Any

import keras

from reproduce.data.vocabulary import Stream
from reproduce.scores.perplexity import Measure


class Validate(keras.callbacks.Callback):
    """Adds what the validation part costs to the logs of each epoch.

    `val_loss` is the mean over all tokens, in nats. Keras's own, of
    `validation_data`, is one over batches, of which the last has fewer tokens.
    The others are `val_token_perplexity` and `val_word_perplexity`.

    Put it before the callbacks that read the logs.

    Args:
        measure: Measures the model that is trained.
        stream: The validation part.
    """

    def __init__(self, measure: Measure, stream: Stream):
        super().__init__()
        self.measure = measure
        self.stream = stream

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        found = self.measure(self.stream)
        if logs is not None:
            logs["val_loss"] = found.loss
            logs["val_token_perplexity"] = found.token_perplexity
            logs["val_word_perplexity"] = found.word_perplexity
