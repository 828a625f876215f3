"""Summarization with BART."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce import flags
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import load_files
from reproduce.data.corpora import load_line_files
from reproduce.data.docstrings import load_docstrings
from reproduce.data.parallel_text import ParallelText
from reproduce.data.summaries import is_stories
from reproduce.data.summaries import load_stories
from reproduce.data.summaries import load_tfds
from reproduce.decoding.summarizer import Summarizer
from reproduce.scores.rouge import Scores
from reproduce.scores.rouge import lead
from reproduce.scores.rouge import names as names_of
from reproduce.scores.rouge import score
from reproduce.tasks.pairs import GenerateLines
from reproduce.tasks.pairs import PairTask
from reproduce.tasks.pairs import ScoreLines
from reproduce.tasks.summarization_runs import SummarizationRun
from reproduce.tasks.summarization_settings import DECODING
from reproduce.tasks.summarization_settings import Settings

# fairseq's `max-source-positions` and `max-target-positions` for BART.
POSITIONS = 1024


@dataclass(frozen=True, kw_only=True)
class _Use:
    model: Path
    """The --output of a training run."""
    beam_size: flags.MaybeCount = None
    """The beam size; none: as in training, also for the flags below."""
    length_penalty: flags.MaybeFloat = None
    """The exponent of the length by which scores are divided."""
    min_length: flags.MaybeCountOrZero = None
    """The minimum number of tokens of a summary, including <s>."""
    max_length: flags.MaybeCount = None
    """The maximum number of tokens of a summary, including <s>."""
    no_repeat_ngram_size: flags.MaybeCountOrZero = None
    """The length of n-grams that a summary must not repeat; 0: any."""
    decoding_batch: flags.Count = 32
    """The number of articles to summarize at a time."""

    def load(self) -> Summarizer:
        """Returns the summarizer of the run."""
        changes = {name: getattr(self, name) for name in DECODING}
        return Summarizer.load(self.model, self.decoding_batch, **changes)


@dataclass(frozen=True, kw_only=True)
class Generate(_Use, GenerateLines):
    """Summarizes one article per line."""


@dataclass(frozen=True, kw_only=True)
class ScoreFile(_Use, ScoreLines):
    """Summarizes a file and prints ROUGE."""

    def score(self, summarizer: Summarizer, text: ParallelText) -> Scores:
        """Returns the scores of the summaries."""
        return score(summarizer.generate(text.sources), text.targets)


MEASURES = [
    Measure("valid", "rougeL", "validation ROUGE-L"),
    Measure("test", "rouge1", "test ROUGE-1"),
    Measure("test", "rouge2", "test ROUGE-2"),
    Measure("test", "rougeL", "test ROUGE-L"),
    Measure("test", "loss", "test loss, nats", digits=3),
]


class Summarization(PairTask):
    """Summarizes articles."""

    name = "summarization"
    settings = Settings
    score = Score("rougeL", "validation ROUGE-L, greedy")
    packages = ("keras-hub", "rouge-score")
    verbs = {"generate": Generate, "score": ScoreFile}
    columns = MEASURES

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        return {
            "max_source_length": POSITIONS,
            "max_target_length": POSITIONS,
            "power": recipe.schedule.power,
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
            return load_files(**settings.files)
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

    def describe(self, data: Corpus) -> str:
        lines = data.describe()
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


def _in_words(scores: dict[str, Any]) -> str:
    return (
        f"ROUGE-1 {scores['rouge1']:.2f}, ROUGE-2 {scores['rouge2']:.2f}, "
        f"ROUGE-L {scores['rougeL']:.2f}"
    )


TASK = Summarization()
