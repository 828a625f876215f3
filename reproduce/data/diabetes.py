"""scikit-learn's diabetes data: ten measurements of a patient, and a score.

All values are standardized by the mean and the standard deviation of the
training part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import sklearn.datasets

from reproduce.data.batches import Rows

# The test part is large because the differences between arms are small.
VALID_ROWS, TEST_ROWS = 80, 120


@dataclass(frozen=True, eq=False)
class Diabetes:
    """Parts that are scaled alike, by means and standard deviations."""

    name = "diabetes"
    train: Rows
    valid: Rows
    test: Rows
    moments: tuple[np.ndarray, np.ndarray]
    target_moments: tuple[float, float]
    input_names: tuple[str, ...]

    def facts(self) -> dict[str, str | int]:
        """Returns the name and the sizes of the dataset."""
        return {
            "name": self.name,
            "inputs": len(self.input_names),
            "train": len(self.train.targets),
            "valid": len(self.valid.targets),
            "test": len(self.test.targets),
        }


def load_diabetes() -> Diabetes:
    """Returns the data, always split in the same way."""
    # scikit-learn's own scaling uses the moments of all rows.
    found = sklearn.datasets.load_diabetes(scaled=False)
    # Only NumPy's legacy generator is guaranteed never to change.
    order = np.random.RandomState(0).permutation(len(found.target))
    valid, test, train = np.split(order, [VALID_ROWS, VALID_ROWS + TEST_ROWS])
    moments, target_moments = (
        (values[train].mean(axis=0), values[train].std(axis=0))
        for values in (found.data, found.target)
    )

    def part(rows: np.ndarray) -> Rows:
        inputs, targets = (
            ((values[rows] - mean) / scale).astype("float32")
            for values, (mean, scale) in (
                (found.data, moments),
                (found.target, target_moments),
            )
        )
        return Rows(inputs, targets[:, None])

    return Diabetes(
        part(train),
        part(valid),
        part(test),
        moments,
        tuple(map(float, target_moments)),
        tuple(found.feature_names),
    )
