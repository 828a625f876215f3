"""One run of image classification."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from rdrop_keras import RDrop
from reproduce import schedules
from reproduce.common import runs
from reproduce.common.arms import rdrop_of
from reproduce.common.devices import is_compiled
from reproduce.common.export import writes_saved_model
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.batches import Batches
from reproduce.data.batches import Rows
from reproduce.data.batches import batches_of_rows
from reproduce.data.images import Dataset
from reproduce.data.images import Part
from reproduce.image_reports import measure
from reproduce.image_reports import plot_predictions
from reproduce.image_reports import plot_reliability
from reproduce.image_reports import probabilities_of
from reproduce.models.resnet import resnet
from reproduce.models.vit import pretrained_vit
from reproduce.models.vit import vit
from reproduce.schedules import ProportionalAlpha
from reproduce.schedules import Schedule
from reproduce.schedules import learning_rate
from reproduce.schedules import times_of
from reproduce.task import Run
from reproduce.tasks.image_settings import Settings

LOGITS = "test_logits.npz"
RELIABILITY = "reliability.png"
PREDICTIONS = "predictions.png"


class ImageRun(Run):
    """A classifier of images, and its data."""

    def __init__(self, data: Dataset, settings: Settings):
        self.data = data
        self.settings = settings
        self.model = build(data.image_shape, len(data.classes), settings)
        # The last batch of an epoch may be smaller, but is a full step.
        steps = -(-len(data.train) // settings.batch_size)
        self.epochs = settings.epochs or 40
        updates = steps * self.epochs // settings.accumulate
        if settings.updates is not None:
            updates = settings.updates
            self.epochs = math.ceil(updates * settings.accumulate / steps)
        compile_classifier(self.model, settings, updates)
        self.validation = batches_of_rows(_rows(data.valid))

    def batches(self, epoch: Any) -> Batches:
        return batches_of_rows(
            _rows(self.data.train),
            self.settings.batch_size,
            self.settings.seed,
            epoch,
            AUGMENTATIONS.get(self.settings.augment or ""),
        )

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        data, arm = self.data, self.settings.arm
        logits = {
            part: self.model.predict(batches_of_rows(_rows(images)), verbose=0)
            for part, images in (("valid", data.valid), ("test", data.test))
        }
        np.savez(output / LOGITS, logits=logits["test"])
        predicted = [(arm, probabilities_of(logits["test"]))]
        title = f"{data.name}: {arm}, seed {self.settings.seed}"
        draw(predicted, data, title, output)
        self.model.save(output / runs.MODEL)
        if writes_saved_model():
            from reproduce.export.classifiers import export_image_classifier

            export_image_classifier(
                self.model,
                data.classes,
                data.image_shape,
                output / runs.SAVED_MODEL,
            )
        return {
            part: measure(logits[part], images.labels)
            for part, images in (("valid", data.valid), ("test", data.test))
        }


def build(
    image_shape: tuple[int, ...], num_classes: int, settings: Settings
) -> keras.Model:
    """Returns the classifier of these settings.

    Args:
        image_shape: Height, width and channels of the images.
        num_classes: The number of classes.
        settings: The settings.
    """
    if settings.model == "resnet":
        return resnet(
            image_shape,
            num_classes,
            settings.blocks,
            settings.dropout,
            settings.image_size,
        )
    rates = settings.dropout, settings.attention_dropout
    if settings.preset is None:
        return vit(
            image_shape, num_classes, settings.size, *rates, settings.image_size
        )
    return pretrained_vit(
        settings.preset, image_shape, num_classes, *rates, settings.image_size
    )


def compile_classifier(
    classifier: keras.Model, settings: Settings, updates: int
) -> None:
    """Compiles a classifier for a number of optimizer updates."""
    classifier.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=_rdrop_of(settings, updates),
        jit_compile=is_compiled(),
    )


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates."""
    is_sgd, times = settings.optimizer == "sgd", times_of(settings)
    options = {"momentum": settings.momentum} if is_sgd else {}
    return schedules.optimizer_of(
        settings.optimizer,
        _rate(settings, updates, times if is_sgd else 1.0),
        settings.accumulate,
        settings.weight_decay,
        settings.clip_norm,
        times,
        **options,
    )


def alpha_of(settings: Settings, updates: int) -> float | Schedule:
    """Returns alpha: a number, or a schedule like the learning rate's."""
    if not settings.decay_alpha:
        return settings.alpha
    rate = _rate(settings, updates, 1)
    return ProportionalAlpha(settings.alpha, rate, settings.highest_rate)


def _rate(settings: Settings, updates: int, times: float) -> Schedule:
    highest = settings.highest_rate * times
    return learning_rate(settings.schedule, highest, updates, settings.warm_up)


def _rdrop_of(settings: Settings, updates: int) -> RDrop | None:
    options = {"divergence": "categorical"}
    if settings.model == "resnet":
        # Batch normalization precedes the only dropout, in the part that runs
        # once.
        options |= {
            "moving_statistics": "first_pass",
            "passes": "shared_prefix",
        }
    return rdrop_of(settings.arm, alpha_of(settings, updates), **options)


def _rows(part: Part) -> Rows:
    return Rows(part.images, part.labels)


def draw(
    predicted: list[tuple[str, np.ndarray]],
    data: Dataset,
    title: str,
    output: Path,
) -> None:
    """Plots reliability and predictions of one or several arms."""
    labels = data.test.labels
    plot_reliability(predicted, labels, title, output / RELIABILITY)
    ends = predicted if len(predicted) == 1 else [predicted[0], predicted[-1]]
    plot_predictions(ends, data, title, output / PREDICTIONS)
