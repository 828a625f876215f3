"""What the classifier learns from: images and labels, in three parts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Protocol

import numpy as np

from reproduce.common.errors import InputError

# Never the seed of a run: all runs of a data set share its parts.
SPLIT_SEED = 2106


class Images(Protocol):
    """Images in memory or on disk: a NumPy array is one.

    Attributes:
        shape: How many, height, width and channels.
    """

    shape: tuple[int, ...]

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Returns images by their indices, as uint8."""


@dataclass(frozen=True)
class Part:
    """Images and, position by position, the index of each one's class."""

    images: Images
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: np.ndarray) -> Part:
        """Returns a part of the part."""
        if isinstance(self.images, np.ndarray):
            return Part(self.images[indices], self.labels[indices])
        return Part(self.images.at(indices), self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """A training, a validation and a test part over the same classes.

    Attributes:
        name: What it is called.
        classes: The class names; the index of a class is its place here.
        skipped: How many files were left out, by reason.
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
        """Returns how much there is of what, for people to read."""
        return {
            "name": self.name,
            "image": "x".join(map(str, self.image_shape)),
            "classes": len(self.classes),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
            **{f"skipped {what}": n for what, n in self.skipped.items()},
        }


def split(part: Part, counts: Sequence[int]) -> list[Part]:
    """Takes parts out of one, in which classes have their share of it.

    A class gets its share of every part, rounded so that the sizes are those
    asked for. The same images always come to the same parts.

    Args:
        part: What to take from.
        counts: How many images each part is to have.

    Returns:
        A part for each count, and one of the rest.

    Raises:
        InputError: If there are not so many images.
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
    """Returns an order every stretch of which has its share of each class."""
    generator = np.random.default_rng(SPLIT_SEED)
    places = np.empty(len(labels))
    for label in np.unique(labels):
        mine = generator.permutation(np.flatnonzero(labels == label))
        # Evenly from 0 to 1, each class from a start of its own.
        places[mine] = (np.arange(len(mine)) + generator.random()) / len(mine)
    return np.argsort(places, kind="stable")
