"""What a classifier's predictions are worth."""

from __future__ import annotations

import numpy as np
import scipy.special

from reproduce.image_classification.calibration import reliability


def probabilities_of(logits: np.ndarray) -> np.ndarray:
    """Returns class probabilities, in double precision."""
    return scipy.special.softmax(logits.astype("float64"), axis=-1)


def measure(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Returns accuracy, negative log-likelihood and calibration error.

    Args:
        logits: Of each example and class.
        labels: The right class indices.
    """
    wide = logits.astype("float64")
    log_likelihoods = scipy.special.log_softmax(wide, axis=-1)
    return {
        "accuracy": float(np.mean(np.argmax(wide, axis=-1) == labels)),
        "loss": float(-np.mean(log_likelihoods[np.arange(len(wide)), labels])),
        "calibration_error": reliability(probabilities_of(wide), labels).error,
    }
