"""Runs of machine translation."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import replace
from typing import Any

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import InverseSquareRoot
from reproduce.common.devices import num_devices
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
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
from reproduce.task import epochs_for
from reproduce.tasks.pairs import PairRun
from reproduce.tasks.translation_settings import Settings

# A learning rate for a tiny model, found without a search.
LEARNING_RATE = 2e-3


class TranslationRun(PairRun):
    """One run: an encoded corpus and a compiled model."""

    def __init__(self, corpus: Corpus, settings: Settings):
        self.corpus = corpus
        self.settings = settings
        joint = not settings.separate_vocabularies
        self.source, self.target = subwords_of(
            corpus.train, settings.vocabulary_size, joint
        )
        pairs = self.encoded(corpus.train)
        kept, dropped = filter_pairs(
            pairs.sources,
            pairs.targets,
            settings.max_length,
            settings.max_ratio,
        )
        self.pairs, self.facts = pairs.at(kept), {"dropped": dropped}
        self.batching = Batching.of(
            self.pairs,
            settings.max_tokens,
            settings.max_pairs,
            multiple=num_devices(),
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
        self.validation = self.evaluation(corpus.valid)

    def generator(self, **changes: Any) -> Translator:
        decoding = replace(self.settings.decoding, **changes)
        return Translator(self.model, self.source, self.target, decoding)

    def score(self, translator: Translator, text: ParallelText) -> Scores:
        translations = translator.generate(text.sources)
        language = self.corpus.target_language
        return score(translations, text.targets, language)

    def encoded(self, text: ParallelText) -> EncodedPairs:
        return encode_pairs(text, self.source, self.target)


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
