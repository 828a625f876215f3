"""Runs of summarization."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import LinearWarmup
from reproduce import schedules
from reproduce.common.devices import num_devices
from reproduce.common.errors import InputError
from reproduce.data.bart_tokenizers import encode
from reproduce.data.bart_tokenizers import train_tokenizer
from reproduce.data.batches import Batches
from reproduce.data.batches import Mapped
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.corpora import Corpus
from reproduce.data.parallel_text import ParallelText
from reproduce.decoding.summarizer import Summarizer
from reproduce.models.bart import CONFIGURATIONS
from reproduce.models.bart import bart_inputs
from reproduce.models.bart import preset_bart
from reproduce.models.bart import small_bart
from reproduce.schedules import check_warm_up
from reproduce.schedules import times_of
from reproduce.scores.rouge import Scores
from reproduce.scores.rouge import score
from reproduce.task import epochs_for
from reproduce.tasks.pairs import PairRun
from reproduce.tasks.summarization_settings import Settings

# The learning rate for a tiny model with a small vocabulary.
LEARNING_RATE = 2e-3
EPSILON = 1e-8


class SummarizationRun(PairRun):
    """One run: an encoded corpus and a compiled model."""

    def __init__(self, corpus: Corpus, settings: Settings):
        self.corpus = corpus
        self.settings = settings
        self.model, self.tokenizer = _model(corpus, settings)
        self.pairs, cut = self._encode(corpus.train)
        self.facts = {"cut": cut}
        self.batching = Batching.of(
            self.pairs,
            settings.max_tokens,
            settings.max_pairs,
            short_targets=True,
            multiple=num_devices(),
            special=self.tokenizer.special,
        )
        steps = self.batching.steps_per_epoch(self.pairs)
        per_epoch = max(steps // settings.accumulate, 1)
        self.epochs = epochs_for(settings, per_epoch)
        self.model.compile(
            optimizer_of(settings, self.epochs * per_epoch),
            LabelSmoothedCrossentropy(settings.label_smoothing),
            metrics=["accuracy"],
            # KerasHub's default metrics would repeat the logged ones.
            weighted_metrics=None,
            rdrop=settings.rdrop,
            jit_compile=settings.compiled,
        )
        self.validation = self.evaluation(corpus.valid)

    def generator(self, **changes: Any) -> Summarizer:
        return Summarizer(
            self.model,
            self.tokenizer,
            self.settings.max_source_length,
            dataclasses.replace(self.settings.decoding, **changes),
            self.settings.decoding_batch,
        )

    def score(self, summarizer: Summarizer, text: ParallelText) -> Scores:
        return score(summarizer.generate(text.sources), text.targets)

    def encoded(self, text: ParallelText) -> EncodedPairs:
        return self._encode(text)[0]

    def prepared(self, batches: Batches) -> Mapped:
        pad = self.tokenizer.special.pad
        return Mapped(batches, lambda x, y: (bart_inputs(x, pad), y))

    def _encode(
        self, text: ParallelText
    ) -> tuple[EncodedPairs, dict[str, int]]:
        settings = self.settings
        sources, cut_sources = encode(
            self.tokenizer, text.sources, settings.max_source_length
        )
        targets, cut_targets = encode(
            self.tokenizer, text.targets, settings.max_target_length
        )
        cut = {"sources": cut_sources, "targets": cut_targets}
        return EncodedPairs(tuple(sources), tuple(targets)), cut


def _model(corpus: Corpus, settings: Settings) -> tuple[Any, Any]:
    longest = max(
        settings.max_source_length,
        settings.max_target_length,
        settings.max_length + 1,
    )
    if settings.preset is None:
        tokenizer = train_tokenizer(corpus.train, settings.vocabulary_size)
        sizes = CONFIGURATIONS[settings.configuration or "tiny"]
        if settings.dropout is not None:
            sizes = dataclasses.replace(sizes, dropout=settings.dropout)
        size = tokenizer.vocabulary_size
        return small_bart(sizes, size, longest, settings.policy), tokenizer
    model, tokenizer = preset_bart(
        settings.preset, settings.dropout, settings.policy
    )
    positions = model.backbone.max_sequence_length
    if longest > positions:
        raise InputError(
            f"--preset {settings.preset}: has positions for {positions} ids, "
            f"fewer than the {longest} wanted. Lower --max-source-length, "
            "--max-target-length or --max-length."
        )
    return model, tokenizer


def optimizer_of(settings: Settings, updates: int) -> keras.optimizers.Adam:
    """Returns the Adam optimizer of fairseq's BART fine-tuning.

    The learning rate reaches 0 at the updates of the settings, if they state
    them, else at those of the run.
    """
    updates = settings.updates or updates
    check_warm_up(settings.warm_up, updates)
    rate = LinearWarmup(
        keras.optimizers.schedules.PolynomialDecay(
            settings.learning_rate or LEARNING_RATE,
            updates - settings.warm_up,
            0.0,
            settings.power,
        ),
        settings.warm_up,
    )
    return schedules.optimizer_of(
        "adam",
        rate,
        settings.accumulate,
        settings.weight_decay,
        settings.clip_norm,
        times_of(settings),
        epsilon=EPSILON,
    )
