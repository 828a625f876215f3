"""Regression on measurements, by a small network of dense layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from rdrop_keras import RDropModel
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.export import export_functions
from reproduce.text_classification.batches import Rows
from reproduce.text_classification.problem import Prepared
from reproduce.text_classification.problem import Problem
from reproduce.text_classification.regression import RegressionDataset
from reproduce.text_classification.regression import RegressionPart
from reproduce.text_classification.settings import Settings

WIDTHS = (64, 64)


class RegressionProblem(Problem):
    """Predicts a score from measurements.

    All errors are in units of the spread of the training scores.
    """

    score = Score("mae", "mean absolute error")
    measures = [
        Measure("valid", "loss", "validation MSE", digits=3),
        Measure("test", "loss", "test MSE", digits=3),
        Measure("test", "mae", "test MAE", digits=3),
    ]
    training_metrics = ["mae"]

    def __init__(self, dataset: RegressionDataset):
        self.dataset = dataset
        self.name = dataset.name

    def facts(self) -> dict[str, str | int]:
        return self.dataset.facts()

    def build(self, settings: Settings) -> keras.Model:
        inputs = keras.Input([len(self.dataset.input_names)])
        hidden = inputs
        for width in WIDTHS:
            hidden = keras.layers.Dense(width, activation="relu")(hidden)
            hidden = keras.layers.Dropout(settings.dropout)(hidden)
        return RDropModel(inputs, keras.layers.Dense(1)(hidden))

    def loss(self) -> keras.losses.Loss:
        return keras.losses.MeanSquaredError()

    def prepare(self, model: keras.Model) -> Prepared:
        def rows(part: RegressionPart) -> Rows:
            # One score for one output.
            return Rows(part.inputs, part.targets[:, None])

        return Prepared(
            rows(self.dataset.train),
            {"valid": rows(self.dataset.valid)},
            {"test": rows(self.dataset.test)},
        )

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: MSE {metrics[part]['loss']:.3f}, "
            f"MAE {metrics[part]['mae']:.3f}"
            for part in ("valid", "test")
        )

    def export(self, model: keras.Model, path: Path) -> None:
        """Writes a SavedModel that takes measurements as they were taken.

        The endpoint "serve" takes rows of them and returns for each the
        `score`, both unscaled. The endpoint "inputs" takes nothing and returns
        the names of the measurements in the order of the columns.
        """
        dataset = self.dataset
        input_mean = tf.constant(dataset.input_mean, tf.float32)
        input_scale = tf.constant(dataset.input_scale, tf.float32)
        names = tf.constant(dataset.input_names)

        def serve(measurements):
            inputs = (measurements - input_mean) / input_scale
            outputs = model(inputs, training=False)[:, 0]
            score = outputs * dataset.target_scale + dataset.target_mean
            return {"score": score}

        signature = tf.TensorSpec(
            [None, len(dataset.input_names)], tf.float32, "measurements"
        )
        export_functions(
            path,
            {
                "serve": (serve, [signature]),
                "inputs": (lambda: {"inputs": tf.identity(names)}, []),
            },
            [model],
        )
