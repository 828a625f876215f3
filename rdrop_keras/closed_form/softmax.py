"""Softmax and its logarithm, once for all that needs them."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form import xla

ops = keras.ops


class Softmax(NamedTuple):
    """The distributions that logits stand for.

    Attributes:
        logits: `(..., classes)`.
        probabilities: Their softmax.
        normalizer: What is to be taken off the logits for the logarithms of
            the probabilities, `(..., 1)`.
    """

    logits: Any
    probabilities: Any
    normalizer: Any

    @classmethod
    def of(cls, logits: Any) -> Softmax:
        """Returns the softmax of logits."""
        if logits.shape[-1] == 1:
            # A cluster of one word; Keras warns of a softmax over it.
            return cls(logits, ops.ones_like(logits), logits)
        largest = ops.max(logits, axis=-1, keepdims=True)
        if xla.is_compiling():
            # Multiplied, since XLA stores what it has divided: it becomes part
            # of whatever reads the probabilities.
            exponentials = ops.exp(logits - largest)
            total = ops.sum(exponentials, axis=-1, keepdims=True)
            probabilities = exponentials * (1.0 / total)
            return cls(logits, probabilities, largest + ops.log(total))
        probabilities = ops.softmax(logits)
        # Of the largest class both are at hand to full precision. On a CPU
        # two maxima take a quarter of the time of `log_softmax`.
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
            label_smoothing: The part of the probability that all classes but
                the label share.
            dense: Whether the target is distributions.
        """
        if dense:
            # A class without a part in the target may have a logit of -inf.
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
        """Returns where class ids are those of the largest logits, `(...)`.

        Of several that are largest the first counts, as in `ops.argmax`.

        Args:
            target: Class ids, `(...)`.
        """
        target = ops.expand_dims(target, -1)
        if not xla.is_compiling():
            best = ops.argmax(self.logits, axis=-1, keepdims=True)
            right = ops.cast(best, target.dtype) == target
            return ops.squeeze(right, axis=-1)
        # XLA computes an argmax class by class.
        found = ops.take_along_axis(self.logits, target, axis=-1)
        before = ops.arange(self.classes, dtype=target.dtype) < target
        # NaN is neither: no class is the most probable then.
        equal = ops.logical_and(self.logits == found, ops.logical_not(before))
        return ops.all(ops.logical_or(self.logits < found, equal), axis=-1)
