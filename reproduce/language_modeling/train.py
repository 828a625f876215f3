"""One run: a language model trained, measured, drawn, saved and exported."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import keras_hub
import tensorflow as tf

import rdrop_keras
from reproduce.common import runs
from reproduce.common.arms import batches_of
from reproduce.common.arms import rdrop_of
from reproduce.common.backup import BackupAndRestore
from reproduce.common.curves import Score
from reproduce.common.curves import plot_curves
from reproduce.common.diverged import StopDiverged
from reproduce.common.epochs import EpochNumber
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.data.blocks import Blocks
from reproduce.data.blocks import steps_per_epoch
from reproduce.data.blocks import training_batches
from reproduce.data.blocks import training_blocks
from reproduce.data.language_corpus import Corpus
from reproduce.data.vocabulary import Stream
from reproduce.data.vocabulary import Vocabulary
from reproduce.data.vocabulary import encode_lines
from reproduce.data.vocabulary import learn_vocabulary
from reproduce.decoding.generator import Generator
from reproduce.language_modeling.optimizers import optimizer_of
from reproduce.language_modeling.settings import POLICIES
from reproduce.language_modeling.settings import Settings
from reproduce.language_modeling.validation import Validate
from reproduce.models.language_model import LanguageModel
from reproduce.scores.perplexity import Measure

PROGRAM = "reproduce.language_modeling"
PERPLEXITY = Score("token_perplexity", "validation perplexity by token")
BEST = "best.weights.h5"


class Prepared(NamedTuple):
    """The corpus as the model sees it."""

    vocabulary: Vocabulary
    streams: dict[str, Stream]
    blocks: Blocks


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
    # After that, which frees what tokenizes.
    prepared = prepare(corpus, settings)
    model = build(prepared.vocabulary, settings)
    compile_model(model, prepared.blocks, settings)
    started = time.monotonic()
    _fit(model, prepared, settings, output)
    seconds = time.monotonic() - started

    history = read_history(output / runs.HISTORY)
    updates = int(model.optimizer.iterations.numpy())
    model.load_weights(output / runs.CHECKPOINTS / BEST)
    title = f"{corpus.name}: {settings.arm}, seed {settings.seed}"
    curves = [(settings.arm, history)]
    plot_curves(curves, title, output / runs.CURVES, PERPLEXITY)
    sampling = replace(settings.sampling, context=settings.block_size)
    # What an interrupted export left there would stay among the new files.
    shutil.rmtree(output / runs.SAVED_MODEL, ignore_errors=True)
    Generator(model, prepared.vocabulary, sampling).save(output)
    streams = prepared.streams
    best_epoch, best_loss = min(history["val_loss"], key=lambda e: e[1])
    metrics = {
        "settings": asdict(settings),
        "data": facts
        | {f"{part}_tokens": len(s.ids) for part, s in streams.items()}
        | {f"{part}_unknown": s.unknown for part, s in streams.items()},
        "vocabulary": prepared.vocabulary.vocabulary_size,
        "parameters": model.count_params(),
        "updates": updates,
        "epochs": len(history["loss"]),
        "chosen": {"epoch": best_epoch, "val_loss": best_loss},
        "train_seconds": round(seconds, 2),
        **_measure_parts(model, streams, settings),
        "versions": {
            "rdrop_keras": rdrop_keras.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "tensorflow": tf.__version__,
        },
    }
    runs.write_json(output / runs.METRICS, metrics)
    # Not before: a run cut off while it exports resumes after its last epoch.
    for name in (runs.BACKUP, runs.CHECKPOINTS):
        shutil.rmtree(output / name, ignore_errors=True)
    return metrics


def prepare(corpus: Corpus, settings: Settings) -> Prepared:
    """Learns the vocabulary and cuts the corpus.

    Raises:
        InputError: If the vocabulary does not fit the corpus or the model.
    """
    vocabulary = learn_vocabulary(
        corpus.train, settings.vocabulary, settings.vocabulary_size
    )
    size, cutoffs = vocabulary.vocabulary_size, settings.configuration.cutoffs
    if cutoffs is not None and size <= cutoffs[-1]:
        raise InputError(
            f"The vocabulary has {size} ids. Expected more than the last of "
            f"the --cutoffs, {cutoffs[-1]}: give lower ones."
        )
    streams = {
        name: encode_lines(lines, vocabulary)
        for name, lines in corpus.parts().items()
    }
    blocks = training_blocks(streams["train"].ids, settings.block_size)
    return Prepared(vocabulary, streams, blocks)


def updates_per_epoch(blocks: Blocks, settings: Settings) -> int:
    """Returns how many updates an epoch has, rounded down but for 0."""
    steps = steps_per_epoch(blocks, settings.batch_size)
    return max(steps // settings.accumulate, 1)


def build(vocabulary: Vocabulary, settings: Settings) -> LanguageModel:
    """Returns a new model."""
    return LanguageModel(
        vocabulary.vocabulary_size,
        dtype=POLICIES.get(settings.mixed_precision, "float32"),
        **asdict(settings.configuration),
    )


def compile_model(
    model: LanguageModel, blocks: Blocks, settings: Settings
) -> None:
    """Compiles a model as a run on these blocks does."""
    updates = settings.epochs * updates_per_epoch(blocks, settings)
    rdrop = rdrop_of(settings.arm, settings.alpha)
    model.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=rdrop
        and replace(rdrop, vocabulary_chunk=settings.vocabulary_chunk),
        jit_compile=settings.jit_compile,
    )


def _fit(
    model: LanguageModel, prepared: Prepared, settings: Settings, output: Path
) -> None:
    epoch = EpochNumber()
    batches = training_batches(
        prepared.blocks, settings.batch_size, settings.seed, epoch
    )
    history, checkpoints = output / runs.HISTORY, output / runs.CHECKPOINTS
    checkpoints.mkdir(exist_ok=True)
    best = keras.callbacks.ModelCheckpoint(
        str(checkpoints / BEST),
        monitor="val_loss",
        mode="min",
        save_best_only=True,
        save_weights_only=True,
    )
    remembered: list[keras.callbacks.Callback] = [best]
    if settings.patience is not None:
        remembered.append(
            keras.callbacks.EarlyStopping(
                "val_loss", patience=settings.patience, mode="min"
            )
        )
    model.fit(
        batches_of(settings.arm, batches),
        epochs=settings.epochs,
        # The batches are shuffled already, and Keras warns if told to.
        shuffle=False,
        callbacks=[
            StopDiverged(),
            epoch,
            # Before all that look at what it logs.
            Validate(_measure(model, settings), prepared.streams["valid"]),
            *remembered,
            keras.callbacks.CSVLogger(str(history), append=True),
            keras.callbacks.TensorBoard(
                str(output / runs.TENSORBOARD), write_graph=False
            ),
            # Last, so that an epoch it counts as done is in the logs.
            BackupAndRestore(
                output / runs.BACKUP, logs=[history], callbacks=remembered
            ),
        ],
        verbose=1 if sys.stdout.isatty() else 2,
    )


def _measure(model: LanguageModel, settings: Settings) -> Measure:
    return Measure(
        model,
        settings.block_size,
        settings.context_window,
        settings.batch_size,
    )


def _measure_parts(
    model: LanguageModel, streams: dict[str, Stream], settings: Settings
) -> dict[str, dict[str, Any]]:
    measure = _measure(model, settings)
    return {
        part: measure(streams[part]).as_dict()
        | {"context_window": settings.context_window}
        for part in ("valid", "test")
        if part in streams
    }
