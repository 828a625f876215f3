"""What the classifier learns from: texts and labels, in three parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Part:
    """Texts and, position by position, the name of each one's class."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Dataset:
    """A training, a validation and a test part over the same classes."""

    name: str
    train: Part
    valid: Part
    test: Part

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names; the index of a class is its place among them."""
        return tuple(sorted(set(self.train.labels)))

    def indices_of(self, part: Part) -> np.ndarray:
        """Returns the labels of a part as class indices."""
        index_of = {name: index for index, name in enumerate(self.classes)}
        return np.array([index_of[label] for label in part.labels], "int32")

    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""
        return {
            "name": self.name,
            "classes": len(self.classes),
            "train": len(self.train),
            "valid": len(self.valid),
            "test": len(self.test),
        }
