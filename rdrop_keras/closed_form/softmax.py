"""Softmax and log-softmax, computed once for the whole objective."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form import xla

ops = keras.ops


class Softmax(NamedTuple):
    """The categorical distributions of logits.

    Attributes:
        logits: `(..., classes)`.
        probabilities: The softmax of the logits.
        normalizer: The log-sum-exp of the logits, `(..., 1)`. The logits minus
            the normalizer are the log-probabilities.
    """

    logits: Any
    probabilities: Any
    normalizer: Any

    @classmethod
    def of(cls, logits: Any) -> Softmax:
        """Returns the softmax of logits."""
        if logits.shape[-1] == 1:
            # A cluster of one word. Keras warns about a softmax of one class.
            return cls(logits, ops.ones_like(logits), logits)
        largest = ops.max(logits, axis=-1, keepdims=True)
        if xla.is_compiling():
            # XLA fuses a multiplication into the operations that read the
            # probabilities, but stores the result of a division.
            exponentials = ops.exp(logits - largest)
            total = ops.sum(exponentials, axis=-1, keepdims=True)
            probabilities = exponentials * (1.0 / total)
            return cls(logits, probabilities, largest + ops.log(total))
        probabilities = ops.softmax(logits)
        # The logit and the probability of the largest class are exact, and on
        # a CPU two maxima take a quarter of the time of `log_softmax`.
        normalizer = largest - ops.log(
            ops.max(probabilities, axis=-1, keepdims=True)
        )
        return cls(logits, probabilities, normalizer)

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.logits.shape[-1]

    def log_probabilities(self) -> Any:
        """Returns the logarithms of all probabilities, `(..., classes)`."""
        return self.logits - self.normalizer

    def crossentropy(
        self, target: Any, label_smoothing: float = 0.0, dense: bool = False
    ) -> Any:
        """Returns the crossentropy of every item, `(...)`.

        Args:
            target: Class ids `(...)`, or distributions `(..., classes)`.
            label_smoothing: The probability that is shared by all classes
                except the label.
            dense: Whether the targets are distributions.
        """
        if dense:
            # A class with a target of 0 may have a logit of -inf.
            logs = self.log_probabilities()
            terms = ops.where(target == 0, 0.0, target * logs)
            value = -ops.sum(terms, axis=-1)
        else:
            found = ops.take_along_axis(
                self.logits, ops.expand_dims(target, -1), axis=-1
            )
            value = ops.squeeze(self.normalizer - found, axis=-1)
        if not label_smoothing:
            return value
        share = label_smoothing / (self.classes - 1)
        if dense:
            rest = ops.sum(logs, axis=-1)
        else:
            rest = ops.sum(self.logits, axis=-1) - self.classes * ops.squeeze(
                self.normalizer, axis=-1
            )
        return (1 - label_smoothing - share) * value - share * rest

    def is_most_probable(self, target: Any) -> Any:
        """Returns whether each class id has the largest logit, `(...)`.

        Of several largest logits the first counts, as in `ops.argmax`.

        Args:
            target: Class ids, `(...)`.
        """
        target = ops.expand_dims(target, -1)
        if not xla.is_compiling():
            best = ops.argmax(self.logits, axis=-1, keepdims=True)
            right = ops.cast(best, target.dtype) == target
            return ops.squeeze(right, axis=-1)
        # XLA computes an argmax sequentially, class by class.
        found = ops.take_along_axis(self.logits, target, axis=-1)
        before = ops.arange(self.classes, dtype=target.dtype) < target
        # Comparisons with NaN are False: then no class is the most probable.
        equal = ops.logical_and(self.logits == found, ops.logical_not(before))
        return ops.all(ops.logical_or(self.logits < found, equal), axis=-1)
