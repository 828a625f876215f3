"""What a run learns and how it is measured, whatever the data are."""

from __future__ import annotations

import abc
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras

from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.history import Curve
from reproduce.text_classification.batches import Rows
from reproduce.text_classification.batches import measuring_batches
from reproduce.text_classification.settings import Settings


class Prepared(NamedTuple):
    """A dataset as the model sees it, with all parts that have labels."""

    train: Rows
    valid: dict[str, Rows]
    test: dict[str, Rows]


class Problem(abc.ABC):
    """A dataset with the model, loss and metrics that go with it.

    Attributes:
        name: What is learned.
        score: What is drawn beside the loss.
        measures: What a comparison compares.
        training_metrics: Keras's metrics to log in training.
    """

    name: str
    score: Score
    measures: list[Measure]
    training_metrics: list[Any]

    @abc.abstractmethod
    def facts(self) -> dict[str, str | int]:
        """Returns how much there is of what, for people to read."""

    @abc.abstractmethod
    def build(self, settings: Settings) -> keras.Model:
        """Returns a new model, to be compiled."""

    @abc.abstractmethod
    def loss(self) -> keras.losses.Loss:
        """Returns the loss to train with."""

    @abc.abstractmethod
    def prepare(self, model: keras.Model) -> Prepared:
        """Returns the rows that the model takes."""

    def scorers(self, prepared: Prepared) -> list[keras.callbacks.Callback]:
        """Returns what adds to the log of each epoch what Keras does not."""
        return []

    def measure(
        self,
        model: keras.Model,
        prepared: Prepared,
        history: dict[str, Curve],
    ) -> dict[str, dict[str, float]]:
        """Returns the measurements of a trained model, by part.

        Args:
            model: The model, without its preprocessor.
            prepared: The rows.
            history: The log of all epochs.
        """
        (test,) = prepared.test.values()
        measured = model.evaluate(
            measuring_batches(test), verbose=0, return_dict=True
        )
        # The last epoch measured the validation part.
        valid = {name: history[f"val_{name}"][-1][1] for name in measured}
        return {"valid": valid, "test": measured}

    @abc.abstractmethod
    def report(self, metrics: dict[str, Any]) -> str:
        """Returns lines that say how a run went, from its metrics."""

    def predict(
        self, model: keras.Model, preprocessor: Any, directory: Path
    ) -> None:
        """Writes predictions for parts without labels, if there are any.

        Args:
            model: The model, without its preprocessor.
            preprocessor: What was taken from it, None if it had none.
            directory: The directory to write, new.
        """
        return

    @abc.abstractmethod
    def export(self, model: keras.Model, path: Path) -> None:
        """Writes a SavedModel that takes what the user has."""
