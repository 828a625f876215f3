"""Whether a model is right as often as it is sure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence, in bins of equal width from 0 to 1.

    A bin has those above its lower edge, up to and with its upper one. Means
    of an empty bin are 0.

    Attributes:
        counts: How many predictions a bin has.
        confidence: The mean probability of the predicted class.
        accuracy: The share of predictions that are right.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error.

        The mean over all predictions of how far accuracy and confidence of
        their bin are apart.
        """
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.sum(self.counts * gaps) / np.sum(self.counts))


def reliability(
    probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS
) -> Reliability:
    """Sorts predictions into bins by their confidence.

    Args:
        probabilities: Of each example and class.
        labels: The right class indices.
        bins: How many bins.
    """
    if len(labels) == 0 or len(probabilities) != len(labels):
        raise ValueError(
            "Expected one label for each row of probabilities, and at least "
            f"one. Received: {len(probabilities)} rows, {len(labels)} labels."
        )
    confidence = np.max(probabilities, axis=-1).astype("float64")
    right = np.argmax(probabilities, axis=-1) == labels
    inner_edges = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    bin_of = np.digitize(confidence, inner_edges, right=True)
    counts = np.bincount(bin_of, minlength=bins)

    def mean_of(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(bin_of, weights=values, minlength=bins)
        return sums / np.maximum(counts, 1)

    return Reliability(counts, mean_of(confidence), mean_of(right))
