"""Runs of machine translation."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import InverseSquareRoot
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
from reproduce.data.batches import Batches
from reproduce.data.batching import Batching
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import filter_pairs
from reproduce.data.parallel_text import ParallelText
from reproduce.data.subwords import encode_pairs
from reproduce.data.subwords import subwords_of
from reproduce.decoding.translator import Translator
from reproduce.models.translation import Transformer
from reproduce.schedules import optimizer_of
from reproduce.scores.bleu import Scores
from reproduce.scores.bleu import score
from reproduce.task import Run
from reproduce.task import epochs_for
from reproduce.tasks.translation_settings import Settings

# A learning rate for a tiny model, found without a search.
LEARNING_RATE = 2e-3


class TranslationRun(Run):
    """One run: an encoded corpus and a compiled model.

    Args:
        corpus: The corpus.
        settings: The settings of the run.
    """

    def __init__(self, corpus: Corpus, settings: Settings):
        self.corpus = corpus
        self.settings = settings
        joint = not settings.separate_vocabularies
        self.source, self.target = subwords_of(
            corpus.train, settings.vocabulary_size, joint
        )
        pairs = encode_pairs(corpus.train, self.source, self.target)
        kept, self.dropped = filter_pairs(
            pairs.sources,
            pairs.targets,
            settings.max_length,
            settings.max_ratio,
        )
        self.pairs = pairs.at(kept)
        self.batching = Batching.of(
            self.pairs, settings.max_tokens, settings.max_pairs
        )
        steps = self.batching.steps_per_epoch(self.pairs)
        self.epochs = epochs_for(settings, max(steps // settings.accumulate, 1))
        sizes = asdict(settings.sizes)
        # Separate vocabularies have unrelated ids.
        sizes["shared_embeddings"] &= joint
        self.model = Transformer(
            vocabulary_size=self.target.vocabulary_size,
            source_vocabulary_size=self.source.vocabulary_size,
            dtype=settings.policy,
            **sizes,
        )
        compile_model(self.model, settings)
        self.validation = self._evaluation(corpus.valid)

    def batches(self, epoch: Any) -> Batches:
        return self.batching.training_batches(
            self.pairs, self.settings.seed, epoch
        )

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        # Greedy search takes a fifth of the time and ranks epochs well enough.
        greedy = self.translator(beam_size=1)
        self._checkpoints = Checkpoints(
            output / runs.CHECKPOINTS,
            lambda: self._score(greedy, self.corpus.valid).values(),
            self.settings.validate_every,
            max(self.settings.average, 1),
            self.settings.patience,
        )
        return [self._checkpoints]

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        chosen = self._checkpoints.choose(self.settings.average)
        translator = self.translator()
        translator.save(output)
        found = {
            "data": {"dropped": self.dropped},
            "vocabulary": self.target.vocabulary_size,
            "chosen_epochs": chosen,
        }
        for part in ("valid", "test"):
            text = getattr(self.corpus, part)
            if text:
                losses = self.model.evaluate(
                    self._evaluation(text), verbose=0, return_dict=True
                )
                found[part] = losses | asdict(self._score(translator, text))
        return found

    def translator(self, **changes: Any) -> Translator:
        """Returns a translator of the current model."""
        decoding = replace(self.settings.decoding, **changes)
        return Translator(self.model, self.source, self.target, decoding)

    def _evaluation(self, text: ParallelText) -> Batches:
        pairs = encode_pairs(text, self.source, self.target)
        longest = int(pairs.lengths.max(initial=1))
        return self.batching.reaching(longest).evaluation_batches(pairs)

    def _score(self, translator: Translator, text: ParallelText) -> Scores:
        translations = translator.generate(text.sources)
        language = self.corpus.target_language
        return score(translations, text.targets, language)


def compile_model(model: Transformer, settings: Settings) -> None:
    """Compiles a model with these settings."""
    rate = InverseSquareRoot(
        settings.learning_rate or LEARNING_RATE, settings.warm_up, 1e-7
    )
    model.compile(
        optimizer_of(
            "adam",
            rate,
            settings.accumulate,
            settings.weight_decay,
            beta_2=0.98,
            epsilon=1e-9,
        ),
        LabelSmoothedCrossentropy(settings.label_smoothing),
        metrics=["accuracy"],
        rdrop=settings.rdrop,
        jit_compile=settings.compiled,
    )
