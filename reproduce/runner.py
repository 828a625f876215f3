"""One training run of any task."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import keras

import rdrop_keras
from reproduce import outputs
from reproduce import workers
from reproduce.common import runs
from reproduce.common.arms import batches_of
from reproduce.common.callbacks import BackupAndRestore
from reproduce.common.callbacks import StopDiverged
from reproduce.common.curves import plot_curves
from reproduce.common.epochs import EpochNumber
from reproduce.common.history import read_history
from reproduce.common.strategies import Strategy
from reproduce.common.strategies import strategy_of
from reproduce.task import Run
from reproduce.task import Settings
from reproduce.task import Task


def train(task: Task, data: Any, settings: Settings) -> dict[str, Any]:
    """Trains one arm on one seed, writes the files and returns the metrics."""
    output, facts = settings.output, data.facts()
    strategy = strategy_of(settings)
    with workers.claimed(
        strategy,
        output,
        task.name,
        settings.compared() | {"data": facts},
        settings.resume,
        settings.overwrite,
    ) as own:
        if not outputs.is_finished(output):
            metrics = _train(task, data, settings, strategy, own)
            runs.write_json(own / runs.METRICS, metrics)
        # Not earlier: a run killed during its export still needs the
        # backup to resume after its last epoch.
        outputs.remove_leftovers(own)
    return outputs.read_metrics(output)


def _train(
    task: Task,
    data: Any,
    settings: Settings,
    strategy: Strategy,
    output: Path,
) -> dict[str, Any]:
    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    with strategy.scope():
        run = task.begin(data, settings)
    epoch = EpochNumber()
    started = time.monotonic()
    batches = run.batches(epoch)
    verbosity = 1 if sys.stdout.isatty() else 2
    try:
        run.model.fit(
            strategy.batches(batches_of(settings.arm, batches)),
            validation_data=run.validation,
            epochs=run.epochs,
            # The batches are already shuffled, and Keras would warn.
            shuffle=False,
            callbacks=[
                *strategy.callbacks(),
                *_callbacks(run, epoch, output, settings.output / runs.BACKUP),
            ],
            verbose=verbosity if strategy.is_chief else 0,
        )
    except Exception:
        # TensorFlow replaces an error raised by the dataset with its own.
        if getattr(batches, "fault", None) is not None:
            raise batches.fault from None
        raise
    seconds = time.monotonic() - started
    # `finish` may load weights that reset the optimizer's iterations.
    updates = int(keras.ops.convert_to_numpy(run.model.optimizer.iterations))
    history = read_history(output / runs.HISTORY)
    title = f"{data.name}: {settings.arm}, seed {settings.seed}"
    curves = [(settings.arm, history)]
    plot_curves(curves, title, output / runs.CURVES, task.curve(data))
    # Files of an interrupted export would otherwise remain in the new one.
    shutil.rmtree(output / runs.SAVED_MODEL, ignore_errors=True)
    found = run.finish(output, history)
    return {
        "settings": settings.compared(),
        "devices": {
            "strategy": strategy.name,
            "devices": strategy.devices,
            "processes": strategy.processes,
        },
        "data": data.facts() | found.pop("data", {}),
        "parameters": run.model.count_params(),
        "updates": updates,
        "epochs": len(history["loss"]),
        "train_seconds": round(seconds, 2),
        **found,
        "versions": {"rdrop_keras": rdrop_keras.__version__}
        | {
            name: importlib.metadata.version(name)
            for name in ("keras", keras.config.backend(), *task.packages)
        },
    }


def _callbacks(
    run: Run, epoch: EpochNumber, output: Path, backup: Path
) -> list[keras.callbacks.Callback]:
    history = output / runs.HISTORY
    callbacks = [
        # First, so that the other callbacks write nothing of a diverged
        # epoch.
        StopDiverged(),
        epoch,
        *run.callbacks(output),
        keras.callbacks.CSVLogger(str(history), append=True),
    ]
    # Keras writes the logs of TensorBoard by TensorFlow.
    if keras.backend.backend() == "tensorflow":
        logs = str(output / runs.TENSORBOARD)
        callbacks.append(keras.callbacks.TensorBoard(logs, write_graph=False))
    # Last, so that every epoch in the backup is also in the logs.
    callbacks.append(
        BackupAndRestore(backup, logs=[history], callbacks=run.remembered())
    )
    return callbacks
