"""Runs of language modelling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import LinearWarmup
from reproduce import schedules
from reproduce.common import runs
from reproduce.common.checkpoints import average_weights
from reproduce.common.errors import InputError
from reproduce.common.strategies import strategy_of
from reproduce.data.batches import batches_of_rows
from reproduce.data.blocks import blocks_of
from reproduce.data.language_corpus import Corpus
from reproduce.data.vocabulary import encode_lines
from reproduce.data.vocabulary import learn_vocabulary
from reproduce.decoding.generator import Generator
from reproduce.models.language_model import LanguageModel
from reproduce.schedules import Schedule
from reproduce.schedules import times_of
from reproduce.scores.perplexity import Measure
from reproduce.task import Run
from reproduce.task import epochs_for
from reproduce.tasks.language_modeling_settings import Settings

# Learning rates that suit a tiny model, found without a search.
LEARNING_RATES = {"adam": 2e-3, "nesterov": 0.1}
BEST = "best.weights.h5"


class LanguageRun(Run):
    """One run: an encoded corpus and a compiled model."""

    def __init__(self, corpus: Corpus, settings: Settings):
        self.settings = settings
        self.vocabulary = learn_vocabulary(
            corpus.train, settings.vocabulary, settings.vocabulary_size or None
        )
        size, cutoffs = self.vocabulary.vocabulary_size, settings.sizes.cutoffs
        if cutoffs is not None and size <= cutoffs[-1]:
            raise InputError(
                f"The vocabulary has {size} ids. Expected more than the last "
                f"of the --cutoffs, {cutoffs[-1]}: give lower ones."
            )
        self.streams = {
            name: encode_lines(lines, self.vocabulary)
            for name, lines in corpus.parts().items()
        }
        self.blocks = blocks_of(self.streams["train"].ids, settings.block_size)
        steps = -(-len(self.blocks.labels) // settings.batch_size)
        per_epoch = max(steps // settings.accumulate, 1)
        self.epochs = epochs_for(settings, per_epoch)
        self.model = LanguageModel(
            size, dtype=settings.policy, **asdict(settings.sizes)
        )
        compile_model(self.model, settings, self.epochs * per_epoch)
        self.measure = Measure(
            self.model,
            settings.block_size,
            settings.context_window,
            settings.batch_size,
        )

    def batches(self, epoch: Any) -> keras.utils.PyDataset:
        return batches_of_rows(
            self.blocks, self.settings.batch_size, self.settings.seed, epoch
        )

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        checkpoints = output / runs.CHECKPOINTS
        checkpoints.mkdir(exist_ok=True)
        self._remembered = [
            keras.callbacks.ModelCheckpoint(
                str(checkpoints / BEST),
                monitor="val_loss",
                mode="min",
                save_best_only=True,
                save_weights_only=True,
            )
        ]
        if self.settings.patience is not None:
            self._remembered.append(
                keras.callbacks.EarlyStopping(
                    "val_loss", patience=self.settings.patience, mode="min"
                )
            )
        # First, because the other callbacks read its logs.
        return [
            keras.callbacks.LambdaCallback(on_epoch_end=self.validate),
            *self._remembered,
        ]

    def validate(self, epoch: int, logs: dict[str, Any]) -> None:
        """Logs the loss and the perplexities of the validation part.

        The loss is the mean over all tokens, in nats. With `validation_data`,
        Keras would weight all batches equally, although the last has fewer
        tokens.
        """
        found = self.measure(self.streams["valid"])
        scores = {
            "val_loss": found.loss,
            "val_token_perplexity": found.token_perplexity,
            "val_word_perplexity": found.word_perplexity,
        }
        logs.update(strategy_of(self.settings).of_chief(scores))

    def remembered(self) -> Sequence[keras.callbacks.Callback]:
        return self._remembered

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        average_weights(self.model, [output / runs.CHECKPOINTS / BEST])
        Generator(self.model, self.vocabulary, self.settings.sampling).save(
            output
        )
        epoch, loss = min(history["val_loss"], key=lambda entry: entry[1])
        facts = {}
        for part, stream in self.streams.items():
            facts[f"{part}_tokens"] = len(stream.ids)
            facts[f"{part}_unknown"] = stream.unknown
        measured = {
            part: self.measure(self.streams[part]).as_dict()
            | {"context_window": self.settings.context_window}
            for part in ("valid", "test")
            if part in self.streams
        }
        return {
            "data": facts,
            "vocabulary": self.vocabulary.vocabulary_size,
            "chosen": {"epoch": epoch, "val_loss": loss},
            **measured,
        }


def compile_model(
    model: LanguageModel, settings: Settings, updates: int
) -> None:
    """Compiles a model for a number of updates."""
    model.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=settings.rdrop,
        jit_compile=settings.compiled,
    )


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates."""
    times, name = times_of(settings), settings.optimizer
    if name == "nesterov":
        rate = learning_rate(settings, updates, times)
        options = {"momentum": settings.momentum}
    else:
        # Adam is invariant to the scale of the gradient.
        rate = learning_rate(settings, updates, 1.0)
        options = {"beta_2": 0.98, "epsilon": 1e-8}
    return schedules.optimizer_of(
        name,
        rate,
        settings.accumulate,
        settings.weight_decay,
        settings.clip_norm,
        times,
        **options,
    )


def learning_rate(settings: Settings, updates: int, times: float) -> Schedule:
    """Returns the learning rate by update, multiplied by `times`."""
    base = settings.learning_rate or LEARNING_RATES[settings.optimizer]
    initial = settings.initial_learning_rate * times
    if settings.schedule == "inverse_square_root":
        return InverseSquareRoot(base * times, settings.warm_up, initial)
    decay = keras.optimizers.schedules.CosineDecay(
        base * times,
        # A run may be shorter than its warm-up.
        max(updates - settings.warm_up, 1),
        settings.end_learning_rate / base,
    )
    return LinearWarmup(decay, settings.warm_up, initial)
