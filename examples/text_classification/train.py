"""One run: a classifier trained, measured, drawn, saved and exported."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

import rdrop_keras
from examples.common import runs
from examples.common.arms import batches_of
from examples.common.arms import rdrop_of
from examples.common.backup import BackupAndRestore
from examples.common.curves import plot_curves
from examples.common.diverged import StopDiverged
from examples.common.history import read_history
from examples.text_classification.data import Dataset
from examples.text_classification.data import Part
from examples.text_classification.model import RDropBertTextClassifier
from examples.text_classification.model import export_classifier
from examples.text_classification.model import preset_classifier
from examples.text_classification.model import small_classifier

PROGRAM = "examples.text_classification"
# Measuring takes no gradients, and so has room for more rows at a time.
MEASURE_BATCH_SIZE = 256
# The share of all updates in which the learning rate rises.
WARM_UP = 0.05
WEIGHT_DECAY = 0.01

# The inputs of the model, by name, and the class indices.
Rows = tuple[dict[str, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its data."""

    arm: str
    alpha: float
    dropout: float
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    preset: str | None = None


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

    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    classifier = _build(dataset, settings)
    started = time.monotonic()
    test = _fit(classifier, dataset, settings, output)
    seconds = time.monotonic() - started

    history = read_history(output / runs.HISTORY)
    title = f"{dataset.name}: {settings.arm}, seed {settings.seed}"
    plot_curves([(settings.arm, history)], title, output / runs.CURVES)
    classifier.save(output / runs.MODEL)
    # What an interrupted export left there would stay among the new files.
    shutil.rmtree(output / runs.SAVED_MODEL, ignore_errors=True)
    export_classifier(classifier, dataset.classes, output / runs.SAVED_MODEL)
    metrics = {
        "settings": asdict(settings),
        "data": facts,
        "parameters": classifier.count_params(),
        "updates": int(classifier.optimizer.iterations.numpy()),
        "train_seconds": round(seconds, 2),
        "valid": {
            name: history[f"val_{name}"][-1][1] for name in ("accuracy", "loss")
        },
        "test": test,
        "versions": {
            "rdrop_keras": rdrop_keras.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "tensorflow": tf.__version__,
        },
    }
    runs.write_json(output / runs.METRICS, metrics)
    # Not before: a run cut off while it exports resumes after its last epoch.
    _remove_backup(output)
    return metrics


def _remove_backup(output: Path) -> None:
    shutil.rmtree(output / runs.BACKUP, ignore_errors=True)


def _fit(
    classifier: RDropBertTextClassifier,
    dataset: Dataset,
    settings: Settings,
    output: Path,
) -> dict[str, float]:
    train_rows, valid_rows, test_rows = (
        _tokenized(classifier, part, dataset)
        for part in (dataset.train, dataset.valid, dataset.test)
    )
    steps = -(-len(dataset.train) // settings.batch_size)
    _compile(classifier, settings, steps * settings.epochs)
    batches = _shuffled_batches(
        train_rows,
        settings,
        # Read off the optimizer, so that a resumed run sees the same order.
        epoch=lambda: int(classifier.optimizer.iterations.numpy()) // steps,
    )
    # `fit` would tokenize strings anew in every epoch, a fifth of its time.
    preprocessor, classifier.preprocessor = classifier.preprocessor, None
    classifier.fit(
        batches_of(settings.arm, batches),
        validation_data=_batches(valid_rows),
        epochs=settings.epochs,
        # The batches are shuffled already, and Keras warns if told to.
        shuffle=False,
        callbacks=_callbacks(output),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    test = classifier.evaluate(_batches(test_rows), verbose=0, return_dict=True)
    classifier.preprocessor = preprocessor
    return test


def _build(dataset: Dataset, settings: Settings) -> RDropBertTextClassifier:
    num_classes = len(dataset.classes)
    if settings.preset is None:
        return small_classifier(
            dataset.train.texts, num_classes, settings.dropout
        )
    return preset_classifier(
        Path(settings.preset), num_classes, settings.dropout
    )


def _compile(
    classifier: RDropBertTextClassifier, settings: Settings, updates: int
) -> None:
    warm_up = int(WARM_UP * updates)
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(
            0.0,
            decay_steps=max(updates - warm_up, 1),
            warmup_target=settings.learning_rate,
            warmup_steps=warm_up,
        ),
        weight_decay=WEIGHT_DECAY,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    classifier.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        rdrop=rdrop_of(settings.arm, settings.alpha),
    )


def _callbacks(output: Path) -> list[keras.callbacks.Callback]:
    history = output / runs.HISTORY
    return [
        # First, so that the others write nothing of an epoch that it ends.
        StopDiverged(),
        keras.callbacks.CSVLogger(str(history), append=True),
        keras.callbacks.TensorBoard(
            str(output / runs.TENSORBOARD), write_graph=False
        ),
        # Last, so that an epoch it counts as done is in the logs.
        BackupAndRestore(output / runs.BACKUP, logs=[history]),
    ]


def _tokenized(
    classifier: RDropBertTextClassifier, part: Part, dataset: Dataset
) -> Rows:
    inputs = classifier.preprocessor(list(part.texts))
    inputs = {name: np.asarray(value) for name, value in inputs.items()}
    return inputs, dataset.indices_of(part)


def _shuffled_batches(
    rows: Rows, settings: Settings, epoch: Callable[[], int]
) -> tf.data.Dataset:
    inputs, y = rows
    count, size = len(y), settings.batch_size

    def one_epoch():
        # `Dataset.shuffle` would begin with the first epoch's order again.
        generator = np.random.default_rng((settings.seed, epoch()))
        order = generator.permutation(count)
        for start in range(0, count, size):
            chosen = order[start : start + size]
            yield {name: x[chosen] for name, x in inputs.items()}, y[chosen]

    signature = tf.nest.map_structure(
        lambda array: tf.TensorSpec([None, *array.shape[1:]], array.dtype),
        rows,
    )
    batches = tf.data.Dataset.from_generator(
        one_epoch, output_signature=signature
    )
    cardinality = tf.data.experimental.assert_cardinality(-(-count // size))
    return batches.apply(cardinality)


def _batches(rows: Rows) -> tf.data.Dataset:
    batches = tf.data.Dataset.from_tensor_slices(rows)
    return batches.batch(MEASURE_BATCH_SIZE)
