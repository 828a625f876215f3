"""Runs of text classification."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from rdrop_keras import RDropModel
from rdrop_keras import recipes
from reproduce import schedules
from reproduce.common import runs
from reproduce.common.arms import TWO_PASSES
from reproduce.common.arms import rdrop_of
from reproduce.common.devices import is_compiled
from reproduce.common.export import writes_saved_model
from reproduce.data.batches import Batches
from reproduce.data.batches import Rows
from reproduce.data.batches import batches_of_rows
from reproduce.data.diabetes import Diabetes
from reproduce.data.glue import GlueDataset
from reproduce.data.glue import write_predictions
from reproduce.data.texts import Dataset
from reproduce.data.texts import Part
from reproduce.glue_metrics import evaluate
from reproduce.models.bert import preset_classifier
from reproduce.models.bert import small_classifier
from reproduce.models.bert import tokenized
from reproduce.schedules import WARM_UP
from reproduce.schedules import check_warm_up
from reproduce.schedules import learning_rate
from reproduce.task import Run
from reproduce.task import epochs_for
from reproduce.tasks.text_settings import Settings

PREDICTIONS = "predictions"
WEIGHT_DECAY = 0.01
WIDTHS = (64, 64)


class StopAtUpdate(keras.callbacks.Callback):
    """Ends training in the middle of its last epoch."""

    def __init__(self, updates: int):
        super().__init__()
        self._updates = updates

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        iterations = self.model.optimizer.iterations
        if int(keras.ops.convert_to_numpy(iterations)) >= self._updates:
            self.model.stop_training = True


class _Run(Run):
    """A compiled model and its rows."""

    def _start(
        self, rows: Rows, loss: keras.losses.Loss, metrics: list[str]
    ) -> None:
        settings = self.settings
        self.rows = rows
        steps = -(-len(rows.targets) // settings.batch_size)
        updates = None if settings.epochs else settings.updates
        self.epochs = settings.epochs or epochs_for(settings, steps)
        self.updates = updates or steps * self.epochs
        self.model.compile(
            optimizer_of(settings, self.updates),
            loss,
            metrics=metrics,
            rdrop=rdrop_of(settings.arm, settings.alpha),
            jit_compile=is_compiled(),
        )

    def batches(self, epoch: Any) -> Batches:
        settings = self.settings
        return batches_of_rows(
            self.rows, settings.batch_size, settings.seed, epoch
        )

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        return [StopAtUpdate(self.updates)]


class TextRun(_Run):
    """A classifier of texts, and its data."""

    def __init__(self, data: Dataset, settings: Settings):
        self.data = data
        self.settings = settings
        outputs, length = len(data.classes) or 1, settings.sequence_length
        if settings.preset is not None:
            model = preset_classifier(
                settings.preset, outputs, settings.dropout, length
            )
        else:
            texts = data.train.first + (data.train.second or ())
            model = small_classifier(texts, outputs, settings.dropout, length)
        self.model = model
        self.preprocessor = model.preprocessor
        self.valid = {name: self._rows(x) for name, x in data.valid.items()}
        self.validation = batches_of_rows(next(iter(self.valid.values())))
        loss, metrics = keras.losses.MeanSquaredError(), []
        if data.classes:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            metrics = ["accuracy"]
        self._start(self._rows(data.train), loss, metrics)
        # With a preprocessor, `fit` would tokenize texts in every epoch.
        model.preprocessor = None

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        callbacks = super().callbacks(output)
        # Keras already logs the accuracy of a single part.
        if self.data.metrics != ("accuracy",) or len(self.valid) > 1:
            callbacks.insert(
                0, keras.callbacks.LambdaCallback(on_epoch_end=self.validate)
            )
        return callbacks

    def validate(self, epoch: int, logs: dict[str, Any]) -> None:
        """Logs the dataset's metrics on the validation parts."""
        scores = self.scores(self.valid)
        logs.update({f"val_{name}": value for name, value in scores.items()})

    def scores(self, parts: dict[str, Rows]) -> dict[str, float]:
        """Returns the dataset's metrics on all these parts."""
        found = {}
        for part, end in suffixes(parts).items():
            rows = parts[part]
            outputs = self.model.predict(batches_of_rows(rows), verbose=0)
            measured = evaluate(self.data.metrics, outputs, rows.targets)
            found |= {name + end: value for name, value in measured.items()}
        return found

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        data, model = self.data, self.model
        is_glue = isinstance(data, GlueDataset)
        measured = {"valid": self.valid}
        if not is_glue:
            measured["test"] = {
                name: self._rows(part) for name, part in data.test.items()
            }
        metrics = {}
        for kind, parts in measured.items():
            metrics[kind] = self.scores(parts)
            for part, end in suffixes(parts).items():
                losses = model.evaluate(
                    batches_of_rows(parts[part]), verbose=0, return_dict=True
                )
                metrics[kind][f"loss{end}"] = losses["loss"]
        for name, part in data.test.items() if is_glue else ():
            inputs = tokenized(self.preprocessor, part.first, part.second)
            rows = Rows(inputs, np.zeros(len(part)))
            outputs = model.predict(batches_of_rows(rows), verbose=0)
            write_predictions(data.task, name, outputs, output / PREDICTIONS)
        model.preprocessor = self.preprocessor
        model.save(output / runs.MODEL)
        if writes_saved_model():
            from reproduce.export.classifiers import export_text_classifier

            export_text_classifier(
                model,
                data.classes,
                output / runs.SAVED_MODEL,
                is_pair=data.train.second is not None,
            )
        return metrics

    def _rows(self, part: Part) -> Rows:
        inputs = tokenized(self.preprocessor, part.first, part.second)
        return Rows(inputs, self.data.targets_of(part))


class DiabetesRun(_Run):
    """A small network of dense layers, and its data.

    Errors are in units of the standard deviation of the training scores.
    """

    def __init__(self, data: Diabetes, settings: Settings):
        self.data = data
        self.settings = settings
        inputs = keras.Input([len(data.input_names)])
        hidden = inputs
        for width in WIDTHS:
            hidden = keras.layers.Dense(width, activation="relu")(hidden)
            hidden = keras.layers.Dropout(settings.dropout)(hidden)
        self.model = RDropModel(inputs, keras.layers.Dense(1)(hidden))
        self.validation = batches_of_rows(data.valid)
        self._start(data.train, keras.losses.MeanSquaredError(), ["mae"])

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        self.model.save(output / runs.MODEL)
        if writes_saved_model():
            from reproduce.export.classifiers import export_diabetes

            export_diabetes(self.model, self.data, output / runs.SAVED_MODEL)
        return {
            part: self.model.evaluate(
                batches_of_rows(rows), verbose=0, return_dict=True
            )
            for part, rows in (
                ("valid", self.data.valid),
                ("test", self.data.test),
            )
        }


def suffixes(parts: dict[str, Any]) -> dict[str, str]:
    """Returns the suffix of the metric names for each part."""
    return {part: f"_{part}" if len(parts) > 1 else "" for part in parts}


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates.

    A recipe gives the optimizer, its clipping and weight decay; learning rate,
    warm-up and updates are those of the settings.
    """
    warm_up = settings.warm_up
    check_warm_up(warm_up, updates)
    if settings.recipe is not None:
        if warm_up is None:
            warm_up = int(WARM_UP * updates)
        recipe = recipes.get(settings.recipe).replace(
            schedule={
                "learning_rate": settings.learning_rate,
                "warmup_updates": warm_up,
                "total_updates": updates,
            }
        )
        # The paper sums the losses of two passes; these arms average them.
        return recipe.optimizer(summed_loss=settings.arm in TWO_PASSES)
    rate = learning_rate(
        settings.schedule, settings.learning_rate, updates, warm_up
    )
    return schedules.optimizer_of("adamw", rate, weight_decay=WEIGHT_DECAY)
