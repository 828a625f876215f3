"""Machine translation with a Transformer."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import PerUpdate
from reproduce import outputs
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of
from reproduce.data.batching import Batches
from reproduce.data.batching import Batching
from reproduce.data.cldr import load_cldr
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import read_parallel
from reproduce.data.subwords import encode_pairs
from reproduce.data.subwords import subwords_of
from reproduce.data.translation_corpus import Corpus
from reproduce.data.translation_corpus import filter_pairs
from reproduce.data.translation_corpus import load_files
from reproduce.data.translation_corpus import load_iwslt14
from reproduce.data.translation_corpus import load_tsv
from reproduce.decoding.translator import SENTENCES
from reproduce.decoding.translator import Decoding
from reproduce.decoding.translator import Translator
from reproduce.flags import Count
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeFloat
from reproduce.flags import MaybePath
from reproduce.flags import MaybeRate
from reproduce.flags import MaybeRatio
from reproduce.flags import NotNegative
from reproduce.models.translation import Transformer
from reproduce.models.translation_sizes import CONFIGURATIONS
from reproduce.models.translation_sizes import Configuration
from reproduce.scores.bleu import Scores
from reproduce.scores.bleu import score
from reproduce.task import Run
from reproduce.task import Task
from reproduce.task import epochs_for
from reproduce.tasks.text import PairSettings
from reproduce.tasks.text import evenly
from reproduce.tasks.text import generate_lines
from reproduce.tasks.text import stated

# What a tiny model on a small vocabulary reaches without a search.
LEARNING_RATE = 2e-3
RATES = ("dropout", "attention_dropout", "activation_dropout")


@dataclass(frozen=True, kw_only=True)
class Settings(PairSettings):
    """The flags of `train translation`."""

    alpha: NotNegative = 5.0
    """Weight of the consistency, the paper's alpha."""
    epochs: Count = 60
    """How often to go through the training part."""
    output: Path = Path("runs/translation")
    """The directory to write."""
    # So few that a tiny model over-fits them: what R-Drop is there for.
    train_pairs: Count = 600
    """How many training pairs of the default corpus to use."""
    max_tokens: Count = 256
    """The most tokens of a side of a batch, padding included."""
    validate_every: Count = 5
    """Translate the validation part after so many epochs."""
    train_tsv: MaybePath = None
    """Own data: UTF-8, two columns, source and target."""
    valid_tsv: MaybePath = None
    test_tsv: MaybePath = None
    source_language: str = "en"
    """Its code."""
    target_language: str = "de"
    """Its code."""
    configuration: Literal["tiny", "iwslt", "big"] = "tiny"
    """The size of the model."""
    dropout: MaybeRate = None
    """Dropout rate of embeddings and residuals; none: the configuration's."""
    attention_dropout: MaybeRate = None
    """Of attention probabilities; none: the configuration's."""
    activation_dropout: MaybeRate = None
    """Of feed-forward activations; none: the configuration's."""
    separate_vocabularies: bool = False
    """Subwords and embeddings of its own for each side."""
    max_length: Count = 175
    """Leave out training pairs with more subwords on a side."""
    max_ratio: MaybeRatio = None
    """Leave out training pairs with a side so many times as long as the other.
    """
    beam_size: Count = 5
    """Of the beam search; 1 is greedy."""
    length_penalty: float = 1.0
    """The power of the length by which scores are divided."""

    @property
    def sizes(self) -> Configuration:
        """The sizes and rates of the model."""
        rates = stated({name: getattr(self, name) for name in RATES})
        return dataclasses.replace(CONFIGURATIONS[self.configuration], **rates)

    @property
    def decoding(self) -> Decoding:
        """How to translate at the end."""
        return Decoding(self.beam_size, self.length_penalty)


class TranslationRun(Run):
    """A corpus as the model sees it, and the model.

    Args:
        corpus: What to learn.
        settings: How to.
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
        # Ids of two vocabularies have nothing in common.
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
        # Greedy: a fifth of the time, and it ranks epochs well enough.
        greedy = self._translator(Decoding(beam_size=1))
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
        translator = self._translator(self.settings.decoding)
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

    def _translator(self, decoding: Decoding) -> Translator:
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
    """Compiles a model as a run of these settings does."""
    rate = InverseSquareRoot(
        settings.learning_rate or LEARNING_RATE, settings.warm_up, 1e-7
    )
    accumulate = None
    if settings.accumulate > 1:
        accumulate = settings.accumulate
        rate = PerUpdate(rate, accumulate)
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
        rdrop=settings.rdrop,
        jit_compile=settings.compiled,
    )


@dataclass(frozen=True, kw_only=True)
class _Use:
    model: Path
    """The --output of a training."""
    beam_size: MaybeCount = None
    """Of the beam search; none: that of the training."""
    length_penalty: MaybeFloat = None
    """The power of the length by which scores are divided; none: that of the
    training."""

    def load(self) -> Translator:
        """Returns the translator of the run."""
        return Translator.load(
            self.model,
            beam_size=self.beam_size,
            length_penalty=self.length_penalty,
        )


@dataclass(frozen=True, kw_only=True)
class Generate(_Use):
    """Translates a sentence a line."""

    source: MaybePath = None
    """A file of sentences; none: standard input."""

    def run(self) -> None:
        """Prints the translations."""
        generate_lines(self.load().generate, self.source, SENTENCES)


@dataclass(frozen=True, kw_only=True)
class ScoreFile(_Use):
    """Translates a file and prints BLEU and chrF."""

    source: Path
    """A file of sentences."""
    reference: Path
    """Their translations, line by line."""

    def run(self) -> None:
        """Prints the scores."""
        text, _ = read_parallel(self.source, self.reference)
        translator = self.load()
        facts = outputs.read_metrics(self.model)["data"]
        translations = translator.generate(text.sources)
        print(score(translations, text.targets, facts["target_language"]))


class Translation(Task):
    """Translates sentences."""

    name = "translation"
    summary = "machine translation with a Transformer"
    settings = Settings
    seeds = (1, 2, 3, 4, 5)
    score = Score("bleu", "validation BLEU, greedy")
    packages = ("keras-hub", "sacrebleu")
    verbs = {"generate": Generate, "score": ScoreFile}

    def recipe_settings(self, name: str) -> dict[str, Any]:
        recipe = recipe_of("translation", name)
        _, source, target = name.split("_")
        schedule, dropout = recipe.schedule, recipe.dropout
        settings = {
            "alpha": recipe.alpha,
            "source_language": source,
            "target_language": target,
            "configuration": "iwslt" if name.startswith("iwslt") else "big",
            "dropout": dropout.rate,
            "attention_dropout": dropout.attention,
            "activation_dropout": dropout.activation,
            "vocabulary_size": recipe.vocabulary.size,
            "separate_vocabularies": recipe.vocabulary.joint is False,
            "max_tokens": recipe.batch.tokens,
            "accumulate": accumulation(recipe),
            "learning_rate": schedule.learning_rate,
            "warm_up": schedule.warmup_updates,
            "updates": schedule.total_updates,
            "weight_decay": recipe.optimizer_settings.weight_decay,
            "label_smoothing": recipe.label_smoothing,
            "beam_size": recipe.decoding.beam_size,
            "length_penalty": recipe.decoding.length_penalty,
            "max_ratio": 1.5,
        }
        return stated(settings)

    def check(self, settings: Settings) -> None:
        settings.check_files()
        tables = (settings.train_tsv, settings.valid_tsv)
        if any(tables) and not all(tables):
            raise InputError("--train-tsv and --valid-tsv come together.")
        if any(tables) and (settings.train_source or settings.data):
            raise InputError("Give parallel files, or TSV files, or --data.")
        if settings.test_tsv and not settings.train_tsv:
            raise InputError("--test-tsv needs --train-tsv.")
        if settings.recipe and not settings.data:
            raise InputError("--recipe needs --data DIR, where its dataset is.")

    def load(self, settings: Settings) -> Corpus:
        languages = {
            "source_language": settings.source_language,
            "target_language": settings.target_language,
        }
        if settings.train_source:
            return load_files(
                settings.train_source,
                settings.train_target,
                settings.valid_source,
                settings.valid_target,
                settings.test_source,
                settings.test_target,
                **languages,
            )
        if settings.train_tsv:
            return load_tsv(
                settings.train_tsv,
                settings.valid_tsv,
                settings.test_tsv,
                **languages,
            )
        if settings.data:
            return load_iwslt14(settings.data, **languages)
        return load_cldr(
            settings.target_language,
            settings.source_language,
            settings.train_pairs,
        )

    def begin(self, data: Corpus, settings: Settings) -> TranslationRun:
        return TranslationRun(data, settings)

    def title(self, data: Corpus, settings: Settings) -> str:
        return (
            f"{data.name} {data.source_language}-{data.target_language}, alpha "
            f"{settings.alpha:g}, dropout {settings.sizes.dropout:g}"
        )

    def measures(self, data: Corpus) -> list[Measure]:
        return [m for m in MEASURES if data.test or m.part != "test"]

    def describe(self, data: Corpus) -> str:
        text = super().describe(data)
        return f"{text}\n{data.report}" if data.report.skipped else text

    def report(self, metrics: dict[str, Any]) -> str:
        lines = [
            f"{part}: BLEU {metrics[part]['bleu']:.2f}, chrF "
            f"{metrics[part]['chrf']:.2f}"
            for part in ("valid", "test")
            if part in metrics
        ]
        return "\n".join([*lines, metrics["valid"]["bleu_signature"]])

    def samples(
        self, data: Corpus, output: Path
    ) -> tuple[list[str], list[str]]:
        text = data.test or data.valid
        chosen = evenly(text, 3)
        return (
            [text.sources[index] for index in chosen],
            [text.targets[index] for index in chosen],
        )


MEASURES = [
    Measure("valid", "bleu", "validation BLEU"),
    Measure("test", "bleu", "test BLEU"),
    Measure("test", "chrf", "test chrF"),
    Measure("test", "loss", "test loss, nats", digits=3),
]
TASK = Translation()
