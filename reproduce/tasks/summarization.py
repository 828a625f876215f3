"""Summarization with BART."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from reproduce.common import runs
from reproduce.common.arms import TWO_PASSES
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of
from reproduce.data.bart_tokenizers import encode
from reproduce.data.bart_tokenizers import train_tokenizer
from reproduce.data.batching import Batches
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.batching import Mapped
from reproduce.data.docstrings import load_docstrings
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import read_parallel
from reproduce.data.stories import is_stories
from reproduce.data.stories import load_stories
from reproduce.data.summarization_corpus import Corpus
from reproduce.data.summarization_corpus import load_files
from reproduce.data.summarization_corpus import load_line_files
from reproduce.data.summarization_tfds import load_tfds
from reproduce.decoding.summarize import Decoding
from reproduce.decoding.summarizer import Summarizer
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeCountOrZero
from reproduce.flags import MaybeFloat
from reproduce.flags import MaybePath
from reproduce.flags import MaybeRate
from reproduce.flags import MaybeText
from reproduce.flags import NotNegative
from reproduce.models.bart import CONFIGURATIONS
from reproduce.models.bart import bart_inputs
from reproduce.models.bart import preset_bart
from reproduce.models.bart import small_bart
from reproduce.scores.baselines import lead
from reproduce.scores.baselines import names as names_of
from reproduce.scores.rouge import Scores
from reproduce.scores.rouge import score
from reproduce.task import Run
from reproduce.task import Task
from reproduce.task import epochs_for
from reproduce.tasks.text import PairSettings
from reproduce.tasks.text import evenly
from reproduce.tasks.text import generate_lines

# What a tiny model on a small vocabulary learns with.
LEARNING_RATE = 2e-3
EPSILON = 1e-8
# Fairseq's `max-source-positions` and `max-target-positions` of BART.
POSITIONS = 1024
DECODING = (
    "beam_size",
    "length_penalty",
    "min_length",
    "max_length",
    "no_repeat_ngram_size",
)


@dataclass(frozen=True, kw_only=True)
class Settings(PairSettings):
    """The flags of `train summarization`."""

    alpha: NotNegative = 0.7
    """Weight of the consistency, the paper's alpha."""
    epochs: Count = 8
    """How often to go through the training part."""
    output: Path = Path("runs/summarization")
    """The directory to write."""
    train_pairs: Count = 4000
    """How many training pairs of the default corpus to use."""
    vocabulary_size: Count = 2000
    """How many subwords, without --preset."""
    max_tokens: Count = 1024
    """The most tokens of a side of a batch, padding included."""
    warm_up: CountOrZero = 100
    """Updates in which the learning rate rises."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay."""
    validate_every: Count = 2
    """Summarize the validation part after so many epochs."""
    validate_on: MaybeCount = None
    """Its first so many articles; none: all."""
    tfds: MaybeText = None
    """A data set of tensorflow-datasets, prepared in --data."""
    preset: MaybeText = None
    """Start from a pre-trained BART: a directory in KerasHub's or Hugging
    Face's layout, or a name that KerasHub downloads."""
    configuration: Literal["tiny", "base", "large"] | None = None
    """The size of a BART from scratch; without --preset, tiny."""
    dropout: MaybeRate = None
    """Dropout rate of all layers; none: the model's own."""
    max_source_length: Count = 48
    """Cut off what is more of an article."""
    max_target_length: Count = 32
    """Cut off what is more of a summary in training."""
    power: NotNegative = 1.0
    """Of the polynomial by which the learning rate falls to 0."""
    clip_norm: NotNegative = 0.1
    """The largest norm of the whole gradient; 0: any."""
    summed_loss: bool = False
    """With two passes, make the updates of the paper's loss, which is the sum
    over the passes where ours is the mean: clipping norm and epsilon are
    halved for that. Recipes do."""
    beam_size: Count = 4
    """Of the beam search; 1 is greedy."""
    length_penalty: float = 1.0
    """The power of the length by which scores are divided."""
    min_length: CountOrZero = 2
    """The fewest tokens of a summary, <s> too."""
    max_length: Count = 40
    """The most tokens of a summary, <s> too."""
    no_repeat_ngram_size: CountOrZero = 3
    """No run of so many tokens is in a summary twice; 0 allows all."""
    decoding_batch: Count = 32
    """Summarize so many articles at a time."""

    @property
    def decoding(self) -> Decoding:
        """How to summarize at the end."""
        return Decoding(**{name: getattr(self, name) for name in DECODING})


class SummarizationRun(Run):
    """A corpus as the model sees it, and the model.

    Args:
        corpus: What to learn.
        settings: How to.

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
            # KerasHub's own would count the same once more.
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
        # Greedy: a fraction of the time, and it ranks epochs well enough.
        greedy = self.summarizer(beam_size=1)
        valid, count = self.corpus.valid, self.settings.validate_on
        few = ParallelText(valid.sources[:count], valid.targets[:count])
        self._checkpoints = Checkpoints(
            output / runs.CHECKPOINTS,
            lambda: _score(greedy, few).values(),
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
                found[part] = losses | asdict(_score(summarizer, text))
        return found

    def summarizer(self, **changes: Any) -> Summarizer:
        """Returns a summarizer with the model, also while it is trained."""
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
    """Returns Adam as fairseq fine-tunes BART with it.

    Args:
        settings: How to train.
        updates: How many updates the run has, at which the learning rate is 0
            if the settings do not say when.

    Raises:
        InputError: If the warm-up leaves no update to the decay.
    """
    updates = settings.updates or updates
    if settings.warm_up >= updates:
        raise InputError(
            f"--warm-up {settings.warm_up}: expected fewer than the {updates} "
            "updates of the run. Lower it, or train for longer."
        )
    rate = LinearWarmup(
        keras.optimizers.schedules.PolynomialDecay(
            settings.learning_rate or LEARNING_RATE,
            updates - settings.warm_up,
            0.0,
            settings.power,
        ),
        settings.warm_up,
    )
    accumulate = None
    if settings.accumulate > 1:
        accumulate = settings.accumulate
        rate = PerUpdate(rate, accumulate)
    times = 1.0
    if settings.summed_loss and settings.arm in TWO_PASSES:
        times = 2.0
    return keras.optimizers.Adam(
        rate,
        epsilon=EPSILON / times,
        weight_decay=settings.weight_decay or None,
        global_clipnorm=(settings.clip_norm or None)
        and settings.clip_norm / times,
        gradient_accumulation_steps=accumulate,
    )


def _score(summarizer: Summarizer, text: ParallelText) -> Scores:
    return score(summarizer.generate(text.sources), text.targets)


@dataclass(frozen=True, kw_only=True)
class _Use:
    model: Path
    """The --output of a training."""
    beam_size: MaybeCount = None
    """Of the beam search; none: as in the training, and so are the others."""
    length_penalty: MaybeFloat = None
    """The power of the length by which scores are divided."""
    min_length: MaybeCountOrZero = None
    """The fewest tokens of a summary, <s> too."""
    max_length: MaybeCount = None
    """The most tokens of a summary, <s> too."""
    no_repeat_ngram_size: MaybeCountOrZero = None
    """No run of so many tokens is in a summary twice; 0 allows all."""
    decoding_batch: Count = 32
    """Summarize so many articles at a time."""

    def load(self) -> Summarizer:
        """Returns the summarizer of the run."""
        changes = {name: getattr(self, name) for name in DECODING}
        return Summarizer.load(self.model, self.decoding_batch, **changes)


@dataclass(frozen=True, kw_only=True)
class Generate(_Use):
    """Summarizes an article a line."""

    source: MaybePath = None
    """A file of articles; none: standard input."""

    def run(self) -> None:
        """Prints the summaries."""
        summarizer = self.load()
        generate_lines(summarizer.generate, self.source, self.decoding_batch)


@dataclass(frozen=True, kw_only=True)
class ScoreFile(_Use):
    """Summarizes a file and prints ROUGE."""

    source: Path
    """A file of articles."""
    reference: Path
    """Their summaries, line by line."""

    def run(self) -> None:
        """Prints the scores."""
        text, _ = read_parallel(self.source, self.reference)
        print(_score(self.load(), text))


class Summarization(Task):
    """Summarizes articles."""

    name = "summarization"
    summary = "summarization with BART"
    settings = Settings
    score = Score("rougeL", "validation ROUGE-L, greedy")
    packages = ("keras-hub", "rouge-score")
    verbs = {"generate": Generate, "score": ScoreFile}

    def recipe_settings(self, name: str) -> dict[str, Any]:
        recipe = recipe_of("summarization", name)
        optimizer, schedule = recipe.optimizer_settings, recipe.schedule
        return {
            "alpha": recipe.alpha,
            "dropout": recipe.dropout.rate,
            "max_source_length": POSITIONS,
            "max_target_length": POSITIONS,
            "max_tokens": recipe.batch.tokens,
            "accumulate": accumulation(recipe),
            "learning_rate": schedule.learning_rate,
            "warm_up": schedule.warmup_updates,
            "power": schedule.power,
            "updates": schedule.total_updates,
            "weight_decay": optimizer.weight_decay,
            "clip_norm": optimizer.global_clipnorm,
            "summed_loss": True,
            "label_smoothing": recipe.label_smoothing,
            "validate_every": 1,
            "validate_on": 1000,
            "vocabulary_chunk": "auto",
            **{name: getattr(recipe.decoding, name) for name in DECODING},
        }

    def check(self, settings: Settings) -> None:
        settings.check_files()
        preset, configuration = settings.preset, settings.configuration
        data = settings.data or settings.train_source
        for wrong, message in (
            (
                settings.tfds and not settings.data,
                "--tfds needs --data DIR, where it was prepared.",
            ),
            (
                settings.recipe and not data,
                "--recipe needs --data DIR, where its dataset is.",
            ),
            (
                settings.recipe and preset is None and configuration is None,
                "--recipe needs --preset, the BART to start from "
                "(bart_large_en, or a directory), or --configuration, to train "
                "one from scratch.",
            ),
            (
                preset is not None and configuration is not None,
                "Give --preset or --configuration, not both.",
            ),
            (
                settings.min_length > settings.max_length,
                "--min-length has to be at most --max-length.",
            ),
            (
                min(settings.max_source_length, settings.max_target_length) < 3,
                "--max-source-length and --max-target-length have to be at "
                "least 3.",
            ),
        ):
            if wrong:
                raise InputError(message)

    def load(self, settings: Settings) -> Corpus:
        if settings.train_source:
            return load_files(
                settings.train_source,
                settings.train_target,
                settings.valid_source,
                settings.valid_target,
                settings.test_source,
                settings.test_target,
            )
        if settings.tfds:
            return load_tfds(settings.tfds, settings.data)
        if settings.data is None:
            return load_docstrings(settings.train_pairs)
        if not settings.data.is_dir():
            raise InputError(f"--data {settings.data}: not a directory.")
        if is_stories(settings.data):
            return load_stories(settings.data)
        return load_line_files(settings.data)

    def begin(self, data: Corpus, settings: Settings) -> SummarizationRun:
        return SummarizationRun(data, settings)

    def measures(self, data: Corpus) -> list[Measure]:
        return [m for m in MEASURES if data.test or m.part != "test"]

    def describe(self, data: Corpus) -> str:
        facts = data.facts()
        facts["skipped"] = sum(facts["skipped"].values())
        lines = [", ".join(f"{name}: {v}" for name, v in facts.items())]
        lines += [
            f"{part}: {report}"
            for part, report in data.reports.items()
            if report.skipped
        ]
        part = "test" if data.test else "valid"
        text = getattr(data, part)
        baselines = {
            "first sentence": lead(text.sources, 1),
            "first three sentences": lead(text.sources, 3),
        }
        if data.name == "docstrings":
            baselines["words of the name"] = names_of(text.sources)
        for name, summaries in baselines.items():
            scores = score(summaries, text.targets).values()
            lines.append(f"{part}, {name}: {_in_words(scores)}")
        return "\n".join(lines)

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: {_in_words(metrics[part])}"
            for part in ("valid", "test")
            if part in metrics
        )

    def samples(
        self, data: Corpus, output: Path
    ) -> tuple[Sequence[str], Sequence[str]]:
        text = data.test or data.valid
        chosen = evenly(text, 3)
        return (
            [text.sources[index] for index in chosen],
            [text.targets[index] for index in chosen],
        )


def _in_words(scores: dict[str, Any]) -> str:
    return (
        f"ROUGE-1 {scores['rouge1']:.2f}, ROUGE-2 {scores['rouge2']:.2f}, "
        f"ROUGE-L {scores['rougeL']:.2f}"
    )


MEASURES = [
    Measure("valid", "rougeL", "validation ROUGE-L"),
    Measure("test", "rouge1", "test ROUGE-1"),
    Measure("test", "rouge2", "test ROUGE-2"),
    Measure("test", "rougeL", "test ROUGE-L"),
    Measure("test", "loss", "test loss, nats", digits=3),
]
TASK = Summarization()
