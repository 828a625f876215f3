"""The tasks of GLUE: one sentence or two, a class or a score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.history import Curve
from reproduce.text_classification.batches import Rows
from reproduce.text_classification.batches import measuring_batches
from reproduce.text_classification.glue import GlueDataset
from reproduce.text_classification.glue import GluePart
from reproduce.text_classification.glue_predictions import prediction_file
from reproduce.text_classification.glue_predictions import write_predictions
from reproduce.text_classification.glue_tasks import GlueTask
from reproduce.text_classification.metrics import evaluate_glue
from reproduce.text_classification.model import export_classifier
from reproduce.text_classification.model import small_classifier
from reproduce.text_classification.model import tokenized
from reproduce.text_classification.presets import preset_classifier
from reproduce.text_classification.problem import Prepared
from reproduce.text_classification.problem import Problem
from reproduce.text_classification.settings import Settings

SEQUENCE_LENGTH = 128


class GlueProblem(Problem):
    """A task of GLUE, measured on its validation parts.

    The labels of the test parts are not public: GLUE's server compares them.
    """

    def __init__(self, dataset: GlueDataset):
        self.dataset = dataset
        self.task = dataset.task
        self.name = f"GLUE {self.task.folder}"
        headline = self.task.headline
        self.training_metrics = []
        if not self.task.is_regression:
            self.training_metrics = ["accuracy"]
        first, *_ = self._suffixes().values()
        self.score = Score(headline + first, headline)
        self.measures = [
            Measure(
                "valid",
                headline + suffix,
                f"{part} {headline}, %",
                scale=100,
            )
            for part, suffix in self._suffixes().items()
        ]

    def facts(self) -> dict[str, str | int]:
        return self.dataset.facts()

    def build(self, settings: Settings) -> keras.Model:
        num_outputs = len(self.task.classes) or 1
        length = settings.sequence_length or SEQUENCE_LENGTH
        if settings.preset is not None:
            return preset_classifier(
                Path(settings.preset), num_outputs, settings.dropout, length
            )
        train = self.dataset.train
        texts = train.first + (train.second or ())
        return small_classifier(texts, num_outputs, settings.dropout, length)

    def loss(self) -> keras.losses.Loss:
        if self.task.is_regression:
            return keras.losses.MeanSquaredError()
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def prepare(self, model: keras.Model) -> Prepared:
        def rows(part: GluePart) -> Rows:
            inputs = tokenized(model.preprocessor, part.first, part.second)
            targets = self.dataset.targets_of(part)
            if self.task.is_regression:
                # One score for one output.
                targets = targets[:, None]
            return Rows(inputs, targets)

        valid = self.dataset.valid.items()
        return Prepared(
            rows(self.dataset.train),
            {name: rows(part) for name, part in valid},
            {},
        )

    def scorers(self, prepared: Prepared) -> list[keras.callbacks.Callback]:
        return [GlueScores(self, prepared)]

    def scores(
        self, model: keras.Model, prepared: Prepared
    ) -> dict[str, float]:
        """Returns all of the task's metrics on all validation parts."""
        scores = {}
        for part, suffix in self._suffixes().items():
            rows = prepared.valid[part]
            outputs = model.predict(measuring_batches(rows), verbose=0)
            measured = evaluate_glue(
                self.task, _predictions(self.task, outputs), _labels(rows)
            )
            scores |= {name + suffix: x for name, x in measured.items()}
        return scores

    def measure(
        self,
        model: keras.Model,
        prepared: Prepared,
        history: dict[str, Curve],
    ) -> dict[str, dict[str, float]]:
        measured = self.scores(model, prepared)
        for part, suffix in self._suffixes().items():
            batches = measuring_batches(prepared.valid[part])
            losses = model.evaluate(batches, verbose=0, return_dict=True)
            measured["loss" + suffix] = losses["loss"]
        return {"valid": measured}

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: "
            + ", ".join(
                f"{name} {100 * metrics['valid'][name + suffix]:.2f} %"
                for name in self.task.metrics
            )
            + f", loss {metrics['valid']['loss' + suffix]:.3f}"
            for part, suffix in self._suffixes().items()
        )

    def predict(
        self, model: keras.Model, preprocessor: Any, directory: Path
    ) -> None:
        for name, part in self.dataset.test.items():
            inputs = tokenized(preprocessor, part.first, part.second)
            rows = Rows(inputs, np.zeros(len(part)))
            write_predictions(
                self.task,
                model.predict(measuring_batches(rows), verbose=0),
                directory / prediction_file(self.task, name),
            )

    def export(self, model: keras.Model, path: Path) -> None:
        export_classifier(
            model, self.task.classes, path, is_pair=self.task.is_pair
        )

    def _suffixes(self) -> dict[str, str]:
        """By validation part, what the names of its metrics end in."""
        parts = list(self.dataset.valid)
        if len(parts) == 1:
            return {parts[0]: ""}
        return {part: f"_{part}" for part in parts}


class GlueScores(keras.callbacks.Callback):
    """Adds the task's metrics to what is logged at the end of an epoch."""

    def __init__(self, problem: GlueProblem, prepared: Prepared):
        super().__init__()
        self._problem = problem
        self._prepared = prepared

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        scores = self._problem.scores(self.model, self._prepared)
        logs.update({f"val_{name}": value for name, value in scores.items()})


def _predictions(task: GlueTask, outputs: np.ndarray) -> np.ndarray:
    return outputs[:, 0] if task.is_regression else outputs.argmax(axis=-1)


def _labels(rows: Rows) -> np.ndarray:
    return rows.targets.reshape(len(rows.targets))
