"""One run: a summarizer trained, scored, drawn, saved and exported."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
import time
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import keras_hub
import tensorflow as tf

import rdrop_keras
from rdrop_keras.losses import LabelSmoothedCrossentropy
from reproduce.common import runs
from reproduce.common.arms import batches_of
from reproduce.common.arms import rdrop_of
from reproduce.common.backup import BackupAndRestore
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.curves import Score
from reproduce.common.curves import plot_curves
from reproduce.common.diverged import StopDiverged
from reproduce.common.epochs import EpochNumber
from reproduce.common.history import read_history
from reproduce.data.parallel_text import ParallelText
from reproduce.summarization.corpus import Corpus
from reproduce.summarization.data import Prepared
from reproduce.summarization.data import prepare
from reproduce.summarization.optimizers import optimizer_of
from reproduce.summarization.scoring import Scores
from reproduce.summarization.scoring import score
from reproduce.summarization.settings import Settings
from reproduce.summarization.summarizer import Summarizer

PROGRAM = "reproduce.summarization"
ROUGE = Score("rougeL", "validation ROUGE-L, greedy")


def train(
    corpus: Corpus, settings: Settings, output: Path, resume: bool = False
) -> dict[str, Any]:
    """Trains one arm on one seed and writes everything about it.

    Args:
        corpus: What to learn.
        settings: How to.
        output: The directory to write.
        resume: Whether to go on with what is there: a finished run is read,
            an interrupted one continues after its last full epoch.

    Returns:
        The metrics, as in `metrics.json`.
    """
    facts = corpus.facts()
    runs.claim(output, PROGRAM, {**asdict(settings), "data": facts}, resume)
    if runs.is_finished(output):
        return runs.read_json(output / runs.METRICS)

    keras.utils.clear_session()
    keras.utils.set_random_seed(settings.seed)
    prepared = prepare(corpus, settings)
    model = prepared.model
    _compile(prepared, settings)
    summarizer = _summarizer(prepared, settings)
    started = time.monotonic()
    checkpoints = _fit(corpus, prepared, settings, output)
    seconds = time.monotonic() - started

    # Before a checkpoint is loaded, and with it the optimizer's count.
    updates = int(model.optimizer.iterations.numpy())
    chosen = checkpoints.last(settings.average) or [checkpoints.best()]
    checkpoints.load(chosen)
    history = read_history(output / runs.HISTORY)
    title = f"{corpus.name}: {settings.arm}, seed {settings.seed}"
    plot_curves([(settings.arm, history)], title, output / runs.CURVES, ROUGE)
    summarizer.save(output)

    def measure(text: ParallelText) -> dict[str, Any]:
        batches = prepared.evaluation_batches(text, settings)
        losses = model.evaluate(batches, verbose=0, return_dict=True)
        return losses | asdict(_score(summarizer, text))

    metrics = {
        "settings": asdict(settings),
        "data": facts | {"cut": prepared.cut},
        "vocabulary": prepared.tokenizer.vocabulary_size,
        "parameters": model.count_params(),
        "updates": updates,
        "epochs": len(history["loss"]),
        "chosen_epochs": [entry["epoch"] for entry in chosen],
        "train_seconds": round(seconds, 2),
        "valid": measure(corpus.valid),
        "versions": {
            "rdrop_keras": rdrop_keras.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "rouge-score": importlib.metadata.version("rouge-score"),
            "tensorflow": tf.__version__,
        },
    }
    if corpus.test:
        metrics["test"] = measure(corpus.test)
    runs.write_json(output / runs.METRICS, metrics)
    # Not before: a run cut off while it exports resumes after its last epoch.
    for name in (runs.BACKUP, runs.CHECKPOINTS):
        shutil.rmtree(output / name, ignore_errors=True)
    return metrics


def with_updates(
    corpus: Corpus, settings: Settings, updates: int
) -> tuple[Settings, int]:
    """Returns settings for at least so many updates, and those of an epoch."""
    per_epoch = prepare(corpus, settings).updates_per_epoch(settings.accumulate)
    epochs = -(-updates // per_epoch)
    return replace(settings, epochs=epochs, updates=updates), per_epoch


def _compile(prepared: Prepared, settings: Settings) -> None:
    per_epoch = prepared.updates_per_epoch(settings.accumulate)
    rdrop = rdrop_of(settings.arm, settings.alpha)
    prepared.model.compile(
        optimizer_of(settings, settings.epochs * per_epoch),
        LabelSmoothedCrossentropy(settings.label_smoothing),
        metrics=["accuracy"],
        # KerasHub's own would count the same once more.
        weighted_metrics=None,
        rdrop=rdrop
        and replace(rdrop, vocabulary_chunk=settings.vocabulary_chunk),
        jit_compile=settings.jit_compile,
    )


def _summarizer(
    prepared: Prepared, settings: Settings, **changes: Any
) -> Summarizer:
    return Summarizer(
        prepared.model,
        prepared.tokenizer,
        settings.max_source_length,
        replace(settings.decoding, **changes),
        settings.decoding_batch,
    )


def _fit(
    corpus: Corpus, prepared: Prepared, settings: Settings, output: Path
) -> Checkpoints:
    epoch = EpochNumber()
    # Greedy: a fraction of the time, and it ranks epochs well enough.
    greedy = _summarizer(prepared, settings, beam_size=1)
    few = ParallelText(
        corpus.valid.sources[: settings.validate_on],
        corpus.valid.targets[: settings.validate_on],
    )
    checkpoints = Checkpoints(
        output / runs.CHECKPOINTS,
        lambda: _score(greedy, few).values(),
        settings.validate_every,
        max(settings.average, 1),
        settings.patience,
    )
    prepared.model.fit(
        batches_of(
            settings.arm, prepared.training_batches(settings.seed, epoch)
        ),
        validation_data=prepared.evaluation_batches(corpus.valid, settings),
        epochs=settings.epochs,
        # The batches are shuffled already, and Keras warns if told to.
        shuffle=False,
        callbacks=_callbacks(output, epoch, checkpoints),
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return checkpoints


def _callbacks(
    output: Path, epoch: EpochNumber, checkpoints: Checkpoints
) -> list[keras.callbacks.Callback]:
    history = output / runs.HISTORY
    return [
        StopDiverged(),
        epoch,
        checkpoints,
        keras.callbacks.CSVLogger(str(history), append=True),
        keras.callbacks.TensorBoard(
            str(output / runs.TENSORBOARD), write_graph=False
        ),
        # Last, so that an epoch it counts as done is in the logs.
        BackupAndRestore(output / runs.BACKUP, logs=[history]),
    ]


def _score(summarizer: Summarizer, text: ParallelText) -> Scores:
    return score(summarizer.summarize(text.sources), text.targets)
