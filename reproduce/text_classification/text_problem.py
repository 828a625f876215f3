"""Texts of one class each, in three parts that all have labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.text_classification.batches import Rows
from reproduce.text_classification.data import Dataset
from reproduce.text_classification.data import Part
from reproduce.text_classification.model import export_classifier
from reproduce.text_classification.model import small_classifier
from reproduce.text_classification.model import tokenized
from reproduce.text_classification.presets import preset_classifier
from reproduce.text_classification.problem import Prepared
from reproduce.text_classification.problem import Problem
from reproduce.text_classification.settings import Settings


class TextProblem(Problem):
    """Says of a text which class it is."""

    score = ACCURACY
    measures = [
        Measure("valid", "accuracy", "validation accuracy, %", scale=100),
        Measure("test", "accuracy", "test accuracy, %", scale=100),
        Measure("test", "loss", "test loss, nats", digits=3),
    ]
    training_metrics = ["accuracy"]

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.name = dataset.name

    def facts(self) -> dict[str, str | int]:
        return self.dataset.facts()

    def build(self, settings: Settings) -> keras.Model:
        num_classes = len(self.dataset.classes)
        if settings.preset is None:
            return small_classifier(
                self.dataset.train.texts, num_classes, settings.dropout
            )
        return preset_classifier(
            Path(settings.preset), num_classes, settings.dropout
        )

    def loss(self) -> keras.losses.Loss:
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def prepare(self, model: keras.Model) -> Prepared:
        def rows(part: Part) -> Rows:
            inputs = tokenized(model.preprocessor, part.texts)
            return Rows(inputs, self.dataset.indices_of(part))

        return Prepared(
            rows(self.dataset.train),
            {"valid": rows(self.dataset.valid)},
            {"test": rows(self.dataset.test)},
        )

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: accuracy {100 * metrics[part]['accuracy']:.2f} %, "
            f"loss {metrics[part]['loss']:.3f}"
            for part in ("valid", "test")
        )

    def export(self, model: keras.Model, path: Path) -> None:
        export_classifier(model, self.dataset.classes, path)
