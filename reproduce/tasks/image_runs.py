"""One run of image classification."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reproduce import schedules
from reproduce.common import runs
from reproduce.common.arms import rdrop_of
from reproduce.common.devices import is_compiled
from reproduce.common.export import writes_saved_model
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.batches import Batches
from reproduce.data.batches import batches_of_rows
from reproduce.data.images import Dataset
from reproduce.image_reports import draw
from reproduce.image_reports import measure
from reproduce.image_reports import probabilities_of
from reproduce.models.resnet import resnet
from reproduce.models.vit import pretrained_vit
from reproduce.models.vit import vit
from reproduce.task import Run
from reproduce.tasks.image_settings import Settings

LOGITS = "test_logits.npz"


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
        self.validation = batches_of_rows(data.valid.rows)

    def batches(self, epoch: Any) -> Batches:
        return batches_of_rows(
            self.data.train.rows,
            self.settings.batch_size,
            self.settings.seed,
            epoch,
            AUGMENTATIONS.get(self.settings.augment or ""),
        )

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        data, arm = self.data, self.settings.arm
        logits = {
            part: self.model.predict(batches_of_rows(images.rows), verbose=0)
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
            "valid": measure(logits["valid"], data.valid.labels),
            "test": measure(logits["test"], data.test.labels),
        }


def build(
    image_shape: tuple[int, ...], num_classes: int, settings: Settings
) -> keras.Model:
    """Returns the classifier of these settings."""
    shapes, side = (image_shape, num_classes), settings.image_size
    if settings.model == "resnet":
        return resnet(*shapes, settings.blocks, settings.dropout, side)
    rates = settings.dropout, settings.attention_dropout
    if settings.preset is None:
        return vit(*shapes, settings.size, *rates, side)
    return pretrained_vit(settings.preset, *shapes, *rates, side)


def compile_classifier(
    classifier: keras.Model, settings: Settings, updates: int
) -> None:
    """Compiles a classifier for a number of optimizer updates."""
    options = {"divergence": "categorical"}
    if settings.model == "resnet":
        # Batch normalization precedes the only dropout, in the part that runs
        # once.
        options["moving_statistics"] = "first_pass"
        options["passes"] = "shared_prefix"
    classifier.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=rdrop_of(settings.arm, alpha_of(settings, updates), **options),
        jit_compile=is_compiled(),
    )


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates."""
    is_sgd, times = settings.optimizer == "sgd", schedules.times_of(settings)
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


def alpha_of(settings: Settings, updates: int) -> float | schedules.Schedule:
    """Returns alpha: a number, or a schedule like the learning rate's."""
    if not settings.decay_alpha:
        return settings.alpha
    return schedules.ProportionalAlpha(
        settings.alpha, _rate(settings, updates, 1.0), settings.highest_rate
    )


def _rate(settings: Settings, updates: int, times: float) -> schedules.Schedule:
    highest = settings.highest_rate * times
    return schedules.learning_rate(
        settings.schedule, highest, updates, settings.warm_up
    )
