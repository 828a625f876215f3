"""One run: a translator trained, scored, drawn, saved and exported."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras
import keras_hub
import sacrebleu
import tensorflow as tf

import rdrop_keras
from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import PerUpdate
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
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import Subwords
from reproduce.data.translation_corpus import Corpus
from reproduce.data.translation_corpus import filter_pairs
from reproduce.decoding.translator import Decoding
from reproduce.decoding.translator import Translator
from reproduce.models.translation import Transformer
from reproduce.models.translation_sizes import CONFIGURATIONS
from reproduce.models.translation_sizes import Configuration
from reproduce.scores.bleu import Scores
from reproduce.scores.bleu import score
from reproduce.translation.batching import encode_pairs
from reproduce.translation.subwords import subwords_of

PROGRAM = "reproduce.translation"
BLEU = Score("bleu", "validation BLEU, greedy")
POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Settings:
    """What a run depends on, beside its data.

    Attributes:
        configuration: Sizes and dropout rates of the model.
        vocabulary_size: How many subwords.
        joint: Whether source and target share subwords and embeddings.
        max_tokens: The most tokens of a side of a batch, padding included.
        max_pairs: The most pairs in a batch, or None.
        max_length: The most subwords in a training sentence.
        max_ratio: How many times as long as the other a side may be, or None.
        accumulate: How many batches make one update.
        warm_up: How many updates the learning rate rises.
        weight_decay: Decoupled weight decay.
        validate_every: Score after every so many epochs.
        patience: Stop after so many scores without a better one, or None.
        average: Average the weights of the last scored epochs, so many of
            them; with 0 take those of the best.
        mixed_precision: A key of `POLICIES`, or None.
        jit_compile: Whether XLA compiles the training step.
        vocabulary_chunk: As in `RDrop`, for the arms that have several passes.
        decoding: How to translate at the end.
    """

    arm: str
    alpha: float
    seed: int
    epochs: int
    configuration: Configuration = CONFIGURATIONS["tiny"]
    vocabulary_size: int = 500
    joint: bool = True
    max_tokens: int = 512
    max_pairs: int | None = None
    max_length: int = 175
    max_ratio: float | None = None
    accumulate: int = 1
    learning_rate: float = 2e-3
    warm_up: int = 200
    weight_decay: float = 0.0
    label_smoothing: float = 0.1
    validate_every: int = 1
    patience: int | None = None
    average: int = 0
    mixed_precision: str | None = None
    jit_compile: bool = False
    vocabulary_chunk: int | str | None = None
    decoding: Decoding = field(default_factory=Decoding)


class _Prepared(NamedTuple):
    """The corpus as the model sees it."""

    source: Subwords
    target: Subwords
    batching: Batching
    train: EncodedPairs
    dropped: dict[str, int]


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
    prepared = _prepare(corpus, settings)
    model = _build(prepared, settings)
    _compile(model, settings)
    started = time.monotonic()
    checkpoints = _fit(model, corpus, prepared, settings, output)
    seconds = time.monotonic() - started

    # Before a checkpoint is loaded, and with it the optimizer's count.
    updates = int(model.optimizer.iterations.numpy())
    chosen = checkpoints.last(settings.average) or [checkpoints.best()]
    checkpoints.load(chosen)
    translator = Translator(
        model, prepared.source, prepared.target, settings.decoding
    )
    history = read_history(output / runs.HISTORY)
    title = f"{corpus.name}: {settings.arm}, seed {settings.seed}"
    plot_curves([(settings.arm, history)], title, output / runs.CURVES, BLEU)
    translator.save(output)
    metrics = {
        "settings": asdict(settings),
        "data": facts | {"dropped": prepared.dropped},
        "vocabulary": prepared.target.vocabulary_size,
        "parameters": model.count_params(),
        "updates": updates,
        "epochs": len(history["loss"]),
        "chosen_epochs": [entry["epoch"] for entry in chosen],
        "train_seconds": round(seconds, 2),
        "valid": _measure(translator, prepared, corpus, corpus.valid),
        "versions": {
            "rdrop_keras": rdrop_keras.__version__,
            "keras": keras.__version__,
            "keras_hub": keras_hub.__version__,
            "sacrebleu": sacrebleu.__version__,
            "tensorflow": tf.__version__,
        },
    }
    if corpus.test:
        metrics["test"] = _measure(translator, prepared, corpus, corpus.test)
    runs.write_json(output / runs.METRICS, metrics)
    # Not before: a run cut off while it exports resumes after its last epoch.
    for name in (runs.BACKUP, runs.CHECKPOINTS):
        shutil.rmtree(output / name, ignore_errors=True)
    return metrics


def updates_per_epoch(corpus: Corpus, settings: Settings) -> int:
    """Returns how many updates an epoch has, rounded down but for 0."""
    prepared = _prepare(corpus, settings)
    steps = prepared.batching.steps_per_epoch(prepared.train)
    return max(steps // settings.accumulate, 1)


def _prepare(corpus: Corpus, settings: Settings) -> _Prepared:
    source, target = subwords_of(
        corpus.train, settings.vocabulary_size, settings.joint
    )
    pairs = encode_pairs(corpus.train, source, target)
    kept, dropped = filter_pairs(
        pairs.sources, pairs.targets, settings.max_length, settings.max_ratio
    )
    pairs = pairs.at(kept)
    batching = Batching.of(pairs, settings.max_tokens, settings.max_pairs)
    return _Prepared(source, target, batching, pairs, dropped)


def _build(prepared: _Prepared, settings: Settings) -> Transformer:
    sizes = asdict(settings.configuration)
    # Ids of two vocabularies have nothing in common.
    sizes["shared_embeddings"] &= settings.joint
    return Transformer(
        vocabulary_size=prepared.target.vocabulary_size,
        source_vocabulary_size=prepared.source.vocabulary_size,
        dtype=POLICIES.get(settings.mixed_precision, "float32"),
        **sizes,
    )


def _compile(model: Transformer, settings: Settings) -> None:
    rate = InverseSquareRoot(settings.learning_rate, settings.warm_up, 1e-7)
    accumulate = None
    if settings.accumulate > 1:
        accumulate = settings.accumulate
        rate = PerUpdate(rate, accumulate)
    rdrop = rdrop_of(settings.arm, settings.alpha)
    model.compile(
        keras.optimizers.Adam(
            rate,
            beta_1=0.9,
            beta_2=0.98,
            epsilon=1e-9,
            weight_decay=settings.weight_decay or None,
            gradient_accumulation_steps=accumulate,
        ),
        LabelSmoothedCrossentropy(settings.label_smoothing),
        metrics=["accuracy"],
        rdrop=rdrop
        and replace(rdrop, vocabulary_chunk=settings.vocabulary_chunk),
        jit_compile=settings.jit_compile,
    )


def _fit(
    model: Transformer,
    corpus: Corpus,
    prepared: _Prepared,
    settings: Settings,
    output: Path,
) -> Checkpoints:
    epoch = EpochNumber()
    batches = prepared.batching.training_batches(
        prepared.train, settings.seed, epoch
    )
    # Greedy: a fifth of the time, and it ranks epochs well enough.
    greedy = Translator(
        model, prepared.source, prepared.target, Decoding(beam_size=1)
    )
    checkpoints = Checkpoints(
        output / runs.CHECKPOINTS,
        lambda: _score(greedy, corpus, corpus.valid).values(),
        settings.validate_every,
        max(settings.average, 1),
        settings.patience,
    )
    history = output / runs.HISTORY
    model.fit(
        batches_of(settings.arm, batches),
        validation_data=_evaluation(prepared, corpus.valid),
        epochs=settings.epochs,
        # The batches are shuffled already, and Keras warns if told to.
        shuffle=False,
        callbacks=[
            StopDiverged(),
            epoch,
            checkpoints,
            keras.callbacks.CSVLogger(str(history), append=True),
            keras.callbacks.TensorBoard(
                str(output / runs.TENSORBOARD), write_graph=False
            ),
            # Last, so that an epoch it counts as done is in the logs.
            BackupAndRestore(output / runs.BACKUP, logs=[history]),
        ],
        verbose=1 if sys.stdout.isatty() else 2,
    )
    return checkpoints


def _evaluation(prepared: _Prepared, text: ParallelText) -> tf.data.Dataset:
    pairs = encode_pairs(text, prepared.source, prepared.target)
    longest = int(pairs.lengths.max(initial=1))
    batching = prepared.batching.reaching(longest)
    return batching.evaluation_batches(pairs)


def _measure(
    translator: Translator,
    prepared: _Prepared,
    corpus: Corpus,
    text: ParallelText,
) -> dict[str, Any]:
    batches = _evaluation(prepared, text)
    losses = translator.model.evaluate(batches, verbose=0, return_dict=True)
    return losses | asdict(_score(translator, corpus, text))


def _score(
    translator: Translator, corpus: Corpus, text: ParallelText
) -> Scores:
    translations = translator.translate(text.sources)
    return score(translations, text.targets, corpus.target_language)
