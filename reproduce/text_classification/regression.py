"""Regression data without a download: scikit-learn's diabetes.

Of 442 patients ten measurements, and how far the disease had gone a year
later. Scores are scaled as the measurements are, by mean and standard deviation
of the training part, so that squared errors are of the order of 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sklearn.datasets

# The test part is large because the differences it has to show are small.
VALID_ROWS, TEST_ROWS = 80, 120


@dataclass(frozen=True, eq=False)
class RegressionPart:
    """Measurements, a row an example, and position by position a score."""

    inputs: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class RegressionDataset:
    """A training, a validation and a test part, scaled alike.

    Attributes:
        input_mean: What was subtracted from the measurements, by column.
        input_scale: What they were divided by then.
        target_mean: What was subtracted from the scores.
        target_scale: What they were divided by then.
        input_names: What the columns of the inputs are called.
    """

    name: str
    train: RegressionPart
    valid: RegressionPart
    test: RegressionPart
    input_mean: np.ndarray
    input_scale: np.ndarray
    target_mean: float
    target_scale: float
    input_names: tuple[str, ...]

    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""
        return {
            "name": self.name,
            "inputs": len(self.input_names),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
        }


def load_diabetes() -> RegressionDataset:
    """Returns scikit-learn's diabetes, always split in the same way."""
    # Not scaled by scikit-learn, whose moments are those of all rows.
    found = sklearn.datasets.load_diabetes(scaled=False)
    # The legacy generator is the one whose numbers NumPy promises to keep.
    order = np.random.RandomState(0).permutation(len(found.target))
    held_out = VALID_ROWS + TEST_ROWS
    valid, test = order[:VALID_ROWS], order[VALID_ROWS:held_out]
    train = order[held_out:]
    inputs, targets = found.data, found.target
    input_mean, input_scale = _moments(inputs[train])
    target_mean, target_scale = _moments(targets[train])

    def part(rows: np.ndarray) -> RegressionPart:
        return RegressionPart(
            ((inputs[rows] - input_mean) / input_scale).astype("float32"),
            ((targets[rows] - target_mean) / target_scale).astype("float32"),
        )

    return RegressionDataset(
        name="diabetes",
        train=part(train),
        valid=part(valid),
        test=part(test),
        input_mean=input_mean,
        input_scale=input_scale,
        target_mean=float(target_mean),
        target_scale=float(target_scale),
        input_names=tuple(found.feature_names),
    )


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.mean(axis=0), values.std(axis=0)
