"""Runs of summarization."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import LinearWarmup
from reproduce import schedules
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
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
from reproduce.task import Run
from reproduce.task import epochs_for
from reproduce.tasks.summarization_settings import Settings

# The learning rate for a tiny model with a small vocabulary.
LEARNING_RATE = 2e-3


EPSILON = 1e-8


class SummarizationRun(Run):
    """One run: an encoded corpus and a compiled model.

    Args:
        corpus: The corpus.
        settings: The settings of the run.

    Raises:
        InputError: If there is no such preset, or it is too short.
    """

    def __init__(self, corpus: Corpus, settings: Settings):
        self.corpus = corpus
        self.settings = settings
        self.model, self.tokenizer = _model(corpus, settings)
        self.pairs, self.cut = self._encode(corpus.train)
        self.batching = Batching.of(
            self.pairs,
            settings.max_tokens,
            settings.max_pairs,
            short_targets=True,
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
        self.validation = self._evaluation(corpus.valid)

    def batches(self, epoch: Any) -> Mapped:
        return self._for_bart(
            self.batching.training_batches(
                self.pairs, self.settings.seed, epoch
            )
        )

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        # Greedy search is much faster and ranks epochs well enough.
        greedy = self.summarizer(beam_size=1)
        valid, count = self.corpus.valid, self.settings.validate_on
        few = ParallelText(valid.sources[:count], valid.targets[:count])
        self._checkpoints = Checkpoints(
            output / runs.CHECKPOINTS,
            lambda: score_of(greedy, few).values(),
            self.settings.validate_every,
            max(self.settings.average, 1),
            self.settings.patience,
        )
        return [self._checkpoints]

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        chosen = self._checkpoints.choose(self.settings.average)
        summarizer = self.summarizer()
        summarizer.save(output)
        found = {
            "data": {"cut": self.cut},
            "vocabulary": self.tokenizer.vocabulary_size,
            "chosen_epochs": chosen,
        }
        for part in ("valid", "test"):
            text = getattr(self.corpus, part)
            if text:
                losses = self.model.evaluate(
                    self._evaluation(text), verbose=0, return_dict=True
                )
                found[part] = losses | asdict(score_of(summarizer, text))
        return found

    def summarizer(self, **changes: Any) -> Summarizer:
        """Returns a summarizer of the current model."""
        return Summarizer(
            self.model,
            self.tokenizer,
            self.settings.max_source_length,
            dataclasses.replace(self.settings.decoding, **changes),
            self.settings.decoding_batch,
        )

    def _evaluation(self, text: ParallelText) -> Mapped:
        pairs, _ = self._encode(text)
        batching = self.batching.reaching(int(pairs.lengths.max(initial=1)))
        return self._for_bart(batching.evaluation_batches(pairs))

    def _for_bart(self, batches: Batches) -> Mapped:
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

    Args:
        settings: The settings of the run.
        updates: The number of updates of the run. The learning rate reaches 0
            at this number unless the settings state another one.

    Raises:
        InputError: If the warm-up leaves no updates for the decay.
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


def score_of(summarizer: Summarizer, text: ParallelText) -> Scores:
    """Summarizes articles and returns the scores of the summaries."""
    return score(summarizer.generate(text.sources), text.targets)
