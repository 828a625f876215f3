"""One run: a classifier trained, measured, drawn, saved and exported."""

from __future__ import annotations

import math
import shutil
import sys
import time
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

import rdrop_keras
from rdrop_keras import RDrop
from reproduce.common import runs
from reproduce.common.arms import rdrop_of
from reproduce.common.backup import BackupAndRestore
from reproduce.common.curves import plot_curves
from reproduce.common.diverged import StopDiverged
from reproduce.common.epochs import EpochNumber
from reproduce.common.history import read_history
from reproduce.data.augment import AUGMENTATIONS
from reproduce.data.batches import Batches
from reproduce.data.batches import Rows
from reproduce.data.images import Dataset
from reproduce.data.images import Part
from reproduce.image_classification.export import export_classifier
from reproduce.image_classification.model import build
from reproduce.image_classification.optimizers import alpha_of
from reproduce.image_classification.optimizers import optimizer_of
from reproduce.image_classification.settings import Settings
from reproduce.image_reports import measure
from reproduce.image_reports import plot_predictions
from reproduce.image_reports import plot_reliability
from reproduce.image_reports import probabilities_of

PROGRAM = "reproduce.image_classification"
LOGITS = "test_logits.npz"
RELIABILITY = "reliability.png"
PREDICTIONS = "predictions.png"


def train(
    dataset: Dataset, settings: Settings, output: Path, resume: bool = False
) -> dict[str, Any]:
    """Trains one arm on one seed and writes everything about it.

    Args:
        dataset: What to learn.
        settings: How to.
        output: The directory to write.
        resume: Whether to go on with what is there: a finished run is read,
            an interrupted one continues after its last full epoch.

    Returns:
        The metrics, as in `metrics.json`.
    """
    facts = dataset.facts()
    runs.claim(output, PROGRAM, {**asdict(settings), "data": facts}, resume)
    if runs.is_finished(output):
        _remove_backup(output)
        return runs.read_json(output / runs.METRICS)
    for name in (LOGITS, RELIABILITY, PREDICTIONS):
        (output / name).unlink(missing_ok=True)

    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    classifier = build(dataset.image_shape, len(dataset.classes), settings)
    started = time.monotonic()
    _fit(classifier, dataset, settings, output)
    seconds = time.monotonic() - started

    history = read_history(output / runs.HISTORY)
    title = f"{dataset.name}: {settings.arm}, seed {settings.seed}"
    plot_curves([(settings.arm, history)], title, output / runs.CURVES)
    logits = {
        name: _logits(classifier, part)
        for name, part in (("valid", dataset.valid), ("test", dataset.test))
    }
    _draw(dataset, settings.arm, logits["test"], title, output)
    classifier.save(output / runs.MODEL)
    # What an interrupted export left there would stay among the new files.
    shutil.rmtree(output / runs.SAVED_MODEL, ignore_errors=True)
    export_classifier(
        classifier,
        dataset.classes,
        dataset.image_shape,
        output / runs.SAVED_MODEL,
    )
    metrics = {
        "settings": asdict(settings),
        "data": facts,
        "parameters": classifier.count_params(),
        "updates": int(classifier.optimizer.iterations.numpy()),
        "epochs": len(history["loss"]),
        "train_seconds": round(seconds, 2),
        "valid": measure(logits["valid"], dataset.valid.labels),
        "test": measure(logits["test"], dataset.test.labels),
        "versions": {
            "rdrop_keras": rdrop_keras.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
        },
    }
    runs.write_json(output / runs.METRICS, metrics)
    # Not before: a run cut off while it exports resumes after its last epoch.
    _remove_backup(output)
    return metrics


def read_logits(directory: Path) -> np.ndarray:
    """Returns what a run's model says of the test part."""
    with np.load(directory / LOGITS) as arrays:
        return arrays["logits"]


def compile_classifier(
    classifier: keras.Model, settings: Settings, updates: int
) -> None:
    """Compiles a classifier for a number of optimizer updates."""
    classifier.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=_rdrop_of(settings, updates),
    )


def _rdrop_of(settings: Settings, updates: int) -> RDrop | None:
    rdrop = rdrop_of(settings.arm, 1.0)
    if rdrop is None:
        return None
    rdrop = replace(rdrop, divergence="categorical")
    if settings.arm == "rdrop":
        rdrop = replace(rdrop, alpha=alpha_of(settings, updates))
    if settings.model != "resnet" or settings.preset:
        return rdrop
    # Both passes have the same statistics: batch normalization comes before
    # the only dropout, and so in the part that runs once.
    return replace(
        rdrop, moving_statistics="first_pass", passes="shared_prefix"
    )


def _fit(
    classifier: keras.Model, dataset: Dataset, settings: Settings, output: Path
) -> None:
    # The last batch of an epoch may be smaller, so that it counts whole.
    steps = -(-len(dataset.train) // settings.batch_size)
    epochs = settings.epochs
    updates = steps * epochs // settings.accumulate
    if settings.updates is not None:
        updates = settings.updates
        epochs = math.ceil(updates * settings.accumulate / steps)
    compile_classifier(classifier, settings, updates)
    epoch = EpochNumber()
    batches = Batches(
        _rows(dataset.train),
        settings.batch_size,
        settings.seed,
        epoch,
        change=AUGMENTATIONS.get(settings.augment),
        twice=settings.arm == "doubled",
    )
    try:
        classifier.fit(
            batches,
            validation_data=Batches(_rows(dataset.valid)),
            epochs=epochs,
            # The batches are shuffled already, and Keras warns if told to.
            shuffle=False,
            callbacks=_callbacks(output, epoch),
            verbose=1 if sys.stdout.isatty() else 2,
        )
    except Exception:
        if batches.fault is not None:
            raise batches.fault from None
        raise


def _callbacks(
    output: Path, epoch: EpochNumber
) -> list[keras.callbacks.Callback]:
    history = output / runs.HISTORY
    return [
        # First, so that the others write nothing of an epoch that it ends.
        StopDiverged(),
        epoch,
        keras.callbacks.CSVLogger(str(history), append=True),
        keras.callbacks.TensorBoard(
            str(output / runs.TENSORBOARD), write_graph=False
        ),
        # Last, so that an epoch it counts as done is in the logs.
        BackupAndRestore(output / runs.BACKUP, logs=[history]),
    ]


def _logits(classifier: keras.Model, part: Part) -> np.ndarray:
    return classifier.predict(Batches(_rows(part)), verbose=0)


def _rows(part: Part) -> Rows:
    return Rows(part.images, part.labels)


def _draw(
    dataset: Dataset, arm: str, logits: np.ndarray, title: str, output: Path
) -> None:
    np.savez(output / LOGITS, logits=logits)
    predicted = [(arm, probabilities_of(logits))]
    labels = dataset.test.labels
    plot_reliability(predicted, labels, title, output / RELIABILITY)
    plot_predictions(predicted, dataset, title, output / PREDICTIONS)


def _remove_backup(output: Path) -> None:
    shutil.rmtree(output / runs.BACKUP, ignore_errors=True)
