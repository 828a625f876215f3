"""Labelled images in a training, a validation and a test part."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field

import numpy as np
import sklearn.datasets

from reproduce.common.errors import InputError
from reproduce.data.batches import Rows
from reproduce.data.image_files import EncodedImages

# Independent of a run's seed: all runs on a dataset share its split.
SPLIT_SEED = 2106
# Few enough digits for a small model to overfit.
TRAIN_DIGITS = 200
VALID_DIGITS = 200


@dataclass(frozen=True)
class Part:
    """Images and the class index of each."""

    images: np.ndarray | EncodedImages
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def rows(self) -> Rows:
        """The images and labels as rows of batches."""
        return Rows(self.images, self.labels)

    def at(self, indices: np.ndarray) -> Part:
        """Returns a part with only these images."""
        if isinstance(self.images, EncodedImages):
            return Part(self.images.at(indices), self.labels[indices])
        return Part(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A training, a validation and a test part over the same classes.

    Attributes:
        classes: The class names, by class index.
        skipped: The number of skipped files, by reason.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    valid: Part
    test: Part
    skipped: dict[str, int] = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Height, width and channels."""
        return tuple(self.train.images.shape[1:])

    def facts(self) -> dict[str, str | int]:
        """Returns the name and the sizes of the dataset."""
        return {
            "name": self.name,
            "image": "x".join(map(str, self.image_shape)),
            "classes": len(self.classes),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
            **{f"skipped {what}": n for what, n in self.skipped.items()},
        }


def load_digits(
    train_images: int = TRAIN_DIGITS, valid_images: int = VALID_DIGITS
) -> Dataset:
    """Returns scikit-learn's 1,797 digits of 8 by 8 gray pixels.

    All digits outside of the training and validation part are the test part.
    """
    digits = sklearn.datasets.load_digits()
    # The maximum pixel value is 16.
    images = np.round(digits.images * (255 / 16)).astype("uint8")
    everything = Part(images[..., None], digits.target.astype("int32"))
    # Validation first, so that it does not depend on the training size.
    valid, train, test = split(everything, (valid_images, train_images))
    classes = tuple(str(name) for name in digits.target_names)
    return Dataset("digits", classes, train, valid, test)


def split(part: Part, counts: Sequence[int]) -> list[Part]:
    """Returns a part of each size, stratified by class, and one of the rest.

    The same images go to the same parts every time.
    """
    wanted = sum(counts)
    if wanted > len(part):
        raise InputError(
            f"Expected at least {wanted} images to take "
            f"{' and '.join(map(str, counts))} from, got {len(part)}. Ask for "
            "fewer."
        )
    order = _stratified_order(part.labels)
    edges = [0, *np.cumsum(counts), len(part)]
    return [
        part.at(np.sort(order[start:end]))
        for start, end in itertools.pairwise(edges)
    ]


def _stratified_order(labels: np.ndarray) -> np.ndarray:
    """Returns an order in which every segment has each class in proportion."""
    # scikit-learn's stratified split refuses a class of one image.
    generator = np.random.default_rng(SPLIT_SEED)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        mine = generator.permutation(np.flatnonzero(labels == label))
        # Each class is spread evenly over (0, 1), from a random offset.
        places[mine] = (np.arange(len(mine)) + generator.random()) / len(mine)
    return np.argsort(places, kind="stable")
