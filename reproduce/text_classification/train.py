"""One run: a model trained, measured, drawn, saved and exported."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import keras_hub
import tensorflow as tf

import rdrop_keras
from reproduce.common import runs
from reproduce.common.arms import batches_of
from reproduce.common.arms import rdrop_of
from reproduce.common.backup import BackupAndRestore
from reproduce.common.curves import plot_curves
from reproduce.common.diverged import StopDiverged
from reproduce.common.history import read_history
from reproduce.text_classification.batches import measuring_batches
from reproduce.text_classification.batches import shuffled_batches
from reproduce.text_classification.optimizers import optimizer_of
from reproduce.text_classification.presets import check_preset
from reproduce.text_classification.problem import Problem
from reproduce.text_classification.problems import AnyDataset
from reproduce.text_classification.problems import problem_of
from reproduce.text_classification.settings import Settings

PROGRAM = "reproduce.text_classification"
PREDICTIONS = "predictions"


class StopAtUpdate(keras.callbacks.Callback):
    """Ends training in the middle of its last epoch."""

    def __init__(self, updates: int):
        super().__init__()
        self._updates = updates

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        if int(self.model.optimizer.iterations.numpy()) >= self._updates:
            self.model.stop_training = True


def train(
    dataset: AnyDataset, settings: Settings, output: Path, resume: bool = False
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
    check_preset(settings)
    problem = problem_of(dataset)
    facts = problem.facts()
    runs.claim(output, PROGRAM, {**asdict(settings), "data": facts}, resume)
    if runs.is_finished(output):
        _remove_backup(output)
        return runs.read_json(output / runs.METRICS)
    shutil.rmtree(output / PREDICTIONS, ignore_errors=True)

    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    model = problem.build(settings)
    started = time.monotonic()
    measured = _fit(model, problem, settings, output)
    seconds = time.monotonic() - started

    history = read_history(output / runs.HISTORY)
    title = f"{problem.name}: {settings.arm}, seed {settings.seed}"
    plot_curves(
        [(settings.arm, history)], title, output / runs.CURVES, problem.score
    )
    model.save(output / runs.MODEL)
    # What an interrupted export left there would stay among the new files.
    shutil.rmtree(output / runs.SAVED_MODEL, ignore_errors=True)
    problem.export(model, output / runs.SAVED_MODEL)
    metrics = {
        "settings": asdict(settings),
        "data": facts,
        "parameters": model.count_params(),
        "updates": int(model.optimizer.iterations.numpy()),
        "train_seconds": round(seconds, 2),
        **measured,
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
    model: keras.Model, problem: Problem, settings: Settings, output: Path
) -> dict[str, dict[str, float]]:
    prepared = problem.prepare(model)
    steps = -(-len(prepared.train.targets) // settings.batch_size)
    updates = settings.updates or steps * settings.epochs
    compile_model(model, problem, settings, updates)
    batches = shuffled_batches(
        prepared.train,
        settings.batch_size,
        settings.seed,
        # Read off the optimizer, so that a resumed run sees the same order.
        epoch=lambda: int(model.optimizer.iterations.numpy()) // steps,
    )
    # `fit` would tokenize strings anew in every epoch, a fifth of its time.
    preprocessor = getattr(model, "preprocessor", None)
    if preprocessor is not None:
        model.preprocessor = None
    stop_diverged, *others = _callbacks(output)
    # Before the log is written, of weights that have not diverged.
    scorers = problem.scorers(prepared)
    if settings.updates is not None:
        scorers.append(StopAtUpdate(updates))
    model.fit(
        batches_of(settings.arm, batches),
        validation_data=measuring_batches(next(iter(prepared.valid.values()))),
        epochs=-(-updates // steps),
        # The batches are shuffled already, and Keras warns if told to.
        shuffle=False,
        callbacks=[stop_diverged, *scorers, *others],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    history = read_history(output / runs.HISTORY)
    measured = problem.measure(model, prepared, history)
    problem.predict(model, preprocessor, output / PREDICTIONS)
    if preprocessor is not None:
        model.preprocessor = preprocessor
    return measured


def compile_model(
    model: keras.Model, problem: Problem, settings: Settings, updates: int
) -> None:
    """Compiles a model as a run of so many updates does."""
    model.compile(
        optimizer_of(settings, updates),
        problem.loss(),
        metrics=problem.training_metrics,
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
