"""Machine translation with a Transformer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce import flags
from reproduce import outputs
from reproduce.common.comparison import Measure
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.data.cldr import load_cldr
from reproduce.data.corpora import Corpus
from reproduce.data.corpora import load_files
from reproduce.data.corpora import load_iwslt14
from reproduce.data.corpora import load_tsv
from reproduce.data.debian import load_debian
from reproduce.data.libreoffice import load_libreoffice_help
from reproduce.data.parallel_text import ParallelText
from reproduce.decoding.translator import Translator
from reproduce.scores.bleu import Scores
from reproduce.scores.bleu import score
from reproduce.tasks.pairs import GenerateLines
from reproduce.tasks.pairs import PairTask
from reproduce.tasks.pairs import ScoreLines
from reproduce.tasks.translation_runs import TranslationRun
from reproduce.tasks.translation_settings import Settings


@dataclass(frozen=True, kw_only=True)
class _Use:
    model: Path
    """The --output of a training run."""
    beam_size: flags.MaybeCount = None
    """The beam size; none: as in training."""
    length_penalty: flags.MaybeFloat = None
    """The exponent of the length by which scores are divided; none: as in
    training."""

    def load(self) -> Translator:
        """Returns the translator of the run."""
        return Translator.load(
            self.model,
            beam_size=self.beam_size,
            length_penalty=self.length_penalty,
        )


@dataclass(frozen=True, kw_only=True)
class Generate(_Use, GenerateLines):
    """Translates one sentence per line."""


@dataclass(frozen=True, kw_only=True)
class ScoreFile(_Use, ScoreLines):
    """Translates a file and prints BLEU and chrF."""

    def score(self, translator: Translator, text: ParallelText) -> Scores:
        """Returns the scores of the translations."""
        facts = outputs.read_metrics(self.model)["data"]
        translations = translator.generate(text.sources)
        return score(translations, text.targets, facts["target_language"])


# Few enough for a tiny model to overfit, which R-Drop counteracts.
DEFAULT_PAIRS = 600
# The corpora of --data that are cut from larger ones.
CUT = {"debian": load_debian, "libreoffice_help": load_libreoffice_help}
MEASURES = [
    Measure("valid", "bleu", "validation BLEU"),
    Measure("test", "bleu", "test BLEU"),
    Measure("test", "chrf", "test chrF"),
    Measure("test", "loss", "test loss, nats", digits=3),
]


class Translation(PairTask):
    """Translates sentences."""

    name = "translation"
    settings = Settings
    seeds = (1, 2, 3, 4, 5)
    score = Score("bleu", "validation BLEU, greedy")
    packages = ("keras-hub", "sacrebleu")
    verbs = {"generate": Generate, "score": ScoreFile}
    columns = MEASURES

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        _, source, target = recipe.name.split("_")
        is_iwslt = recipe.name.startswith("iwslt")
        return {
            "source_language": source,
            "target_language": target,
            "configuration": "iwslt" if is_iwslt else "big",
            "vocabulary_size": recipe.vocabulary.size,
            "separate_vocabularies": recipe.vocabulary.joint is False,
            "beam_size": recipe.decoding.beam_size,
            "length_penalty": recipe.decoding.length_penalty,
            "max_ratio": 1.5,
        }

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
        is_cut = settings.corpus in CUT
        if is_cut and not settings.data:
            raise InputError(
                f"--corpus {settings.corpus} needs --data DIR, where its files "
                "are; see docs/datasets.md."
            )
        if settings.maximum_words and not is_cut:
            raise InputError(
                f"--maximum-words is for --corpus {' or '.join(CUT)}."
            )

    def load(self, settings: Settings) -> Corpus:
        languages = {
            "source_language": settings.source_language,
            "target_language": settings.target_language,
        }
        if settings.train_source:
            return load_files(**settings.files, strict=True, **languages)
        if settings.train_tsv:
            return load_tsv(
                settings.train_tsv,
                settings.valid_tsv,
                settings.test_tsv,
                **languages,
            )
        if settings.corpus in CUT:
            return CUT[settings.corpus](
                settings.data,
                **languages,
                train_pairs=settings.train_pairs,
                maximum_words=settings.maximum_words,
            )
        if settings.data:
            return load_iwslt14(settings.data, **languages)
        return load_cldr(
            settings.target_language,
            settings.source_language,
            settings.train_pairs or DEFAULT_PAIRS,
        )

    def begin(self, data: Corpus, settings: Settings) -> TranslationRun:
        return TranslationRun(data, settings)

    def title(self, data: Corpus, settings: Settings) -> str:
        return (
            f"{data.name} {data.source_language}-{data.target_language}, alpha "
            f"{settings.alpha:g}, dropout {settings.sizes.dropout:g}"
        )

    def describe(self, data: Corpus) -> str:
        return "\n".join(data.describe())

    def report(self, metrics: dict[str, Any]) -> str:
        lines = [
            f"{part}: BLEU {metrics[part]['bleu']:.2f}, chrF "
            f"{metrics[part]['chrf']:.2f}"
            for part in ("valid", "test")
            if part in metrics
        ]
        return "\n".join([*lines, metrics["valid"]["bleu_signature"]])


TASK = Translation()
