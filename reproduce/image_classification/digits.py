"""Handwritten digits, which come with scikit-learn: no download."""

from __future__ import annotations

import numpy as np
import sklearn.datasets

from reproduce.image_classification.data import Dataset
from reproduce.image_classification.data import Part
from reproduce.image_classification.data import split

# So few that a small model over-fits them: what R-Drop is there for.
TRAIN_IMAGES = 200
VALID_IMAGES = 200
BRIGHTEST = 16


def load_digits(
    train_images: int = TRAIN_IMAGES, valid_images: int = VALID_IMAGES
) -> Dataset:
    """Returns 1,797 images of 8 by 8 grey pixels, most of them for the test.

    Args:
        train_images: How many to train on.
        valid_images: How many to validate on. What is left is the test part.
    """
    digits = sklearn.datasets.load_digits()
    images = np.round(digits.images * (255 / BRIGHTEST)).astype("uint8")
    everything = Part(images[..., None], digits.target.astype("int32"))
    # Validation first: it stays the same, however many are trained on.
    valid, train, test = split(everything, (valid_images, train_images))
    classes = tuple(str(name) for name in digits.target_names)
    return Dataset("digits", classes, train, valid, test)
