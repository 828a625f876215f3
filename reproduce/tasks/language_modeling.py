"""Language modelling with a Transformer."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import tyro

from reproduce import flags
from reproduce import outputs
from reproduce.common.comparison import Measure as Column
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.data.debian import load_debian_text
from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import LineFile
from reproduce.data.language_corpus import checked
from reproduce.data.language_corpus import load_files
from reproduce.data.language_corpus import load_topics
from reproduce.data.language_corpus import load_wikitext
from reproduce.data.vocabulary import encode_lines
from reproduce.decoding.generator import Generator
from reproduce.models.sizes import LANGUAGE_SIZES
from reproduce.scores.perplexity import Measure
from reproduce.scores.perplexity import Perplexity
from reproduce.task import Task
from reproduce.tasks.language_modeling_runs import LanguageRun
from reproduce.tasks.language_modeling_settings import Settings
from reproduce.tasks.text import generate_lines

RECIPE_MODELS = {
    "transformer_lm_gpt": "gpt",
    "transformer_lm_wiki103": "wiki103",
}
# Few enough for a tiny model to overfit, which R-Drop counteracts.
TOPIC_WORDS = 16_000
COUNTS = ("nats", "tokens", "words")
MEASURES = [
    Column("valid", "token_perplexity", "validation perplexity by token"),
    Column("test", "word_perplexity", "test perplexity by word"),
    Column("test", "token_perplexity", "test perplexity by token"),
    Column("test", "loss", "test loss, nats", digits=3),
]


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measures the perplexity of a text."""

    model: Path
    """The --output of a training run."""
    text: flags.MaybePath = None
    """A UTF-8 text; none: --part of --data or of the default corpus."""
    data: flags.MaybePath = None
    """The directory of the data, as for train."""
    corpus: Literal["wikitext", "debian"] = "wikitext"
    """What --data has, as for train."""
    part: Literal["train", "valid", "test"] = "test"
    """The part of --data or of the default corpus."""
    block_size: flags.MaybeCount = None
    """The number of tokens per block; none: as in training."""
    context_window: flags.MaybeCountOrZero = None
    """The number of context tokens in a block; none: as in training."""
    batch_size: flags.Count = 8
    """The number of blocks in a batch."""

    def run(self) -> None:
        """Prints the perplexity."""
        # First, because a missing text is detected at the least cost.
        lines = self._lines()
        generator = Generator.load(self.model)
        settings = outputs.read_metrics(self.model)["settings"]
        size, context = self.block_size, self.context_window
        size = settings["block_size"] if size is None else size
        context = settings["context_window"] if context is None else context
        if context >= size:
            raise InputError(
                f"--context-window {context}: expected less than the block "
                f"size, {size}."
            )
        measure = Measure(generator.model, size, context, self.batch_size)
        stream = encode_lines(lines, generator.vocabulary)
        print(measure(stream))
        print(
            f"blocks of {size} tokens, {context} of them context; "
            f"{stream.unknown} unknown"
        )

    def _lines(self) -> Iterable[str]:
        if self.text and self.data:
            raise InputError("Give --text or --data, not both.")
        if self.text:
            return checked(LineFile(self.text))
        return load_corpus(self).parts()[self.part]


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Continues texts."""

    model: Path
    """The --output of a training run."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """The text to continue; may be given several times. Default: standard
    input, one prompt per line."""
    new_tokens: flags.MaybeCount = None
    """The number of tokens to generate; none: as in training, also for the
    flags below."""
    temperature: flags.MaybeNotNegative = None
    """The sampling temperature; 0 is greedy."""
    top_k: flags.MaybeCountOrZero = None
    """Sample from this many most probable tokens; 0: all."""
    top_p: flags.MaybeNotNegative = None
    """Sample from the most probable tokens of this total probability."""
    seed: flags.MaybeCountOrZero = None
    """The seed of the sampling."""

    def run(self) -> None:
        """Prints each prompt and its continuation."""
        names = ("new_tokens", "temperature", "top_k", "top_p", "seed")
        generator = Generator.load(
            self.model, **{name: getattr(self, name) for name in names}
        )

        def go_on(prompts: Sequence[str]) -> list[str]:
            pairs = zip(prompts, generator.go_on(prompts))
            return [f"{prompt} [...] {text}" for prompt, text in pairs]

        if self.prompt:
            print("\n".join(go_on(self.prompt)))
        else:
            generate_lines(go_on, None, at_a_time=1)


class LanguageModeling(Task):
    """Predicts the next token of a text."""

    name = "language_modeling"
    settings = Settings
    score = Score("token_perplexity", "validation perplexity by token")
    packages = ("keras-hub",)
    verbs = {"evaluate": Evaluate, "generate": Generate}

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        schedule, batch = recipe.schedule, recipe.batch
        return {
            "configuration": RECIPE_MODELS[recipe.model.name],
            "softmax_dropout": recipe.dropout.adaptive_softmax,
            "vocabulary": recipe.vocabulary.kind,
            "vocabulary_size": 0,
            "cutoffs": recipe.vocabulary.adaptive_cutoffs,
            "block_size": batch.sequence_length,
            "batch_size": max(batch.tokens // batch.sequence_length, 1),
            "initial_learning_rate": schedule.initial_learning_rate,
            "end_learning_rate": schedule.end_learning_rate,
            "context_window": recipe.decoding.context_window,
            "vocabulary_chunk": "auto",
        }

    def check(self, settings: Settings) -> None:
        for wrong, message in (
            (settings.recipe and not settings.data, "--recipe needs --data."),
            (
                bool(settings.train) != bool(settings.valid),
                "--train and --valid come together.",
            ),
            (settings.test and not settings.train, "--test needs --train."),
            (
                settings.train and settings.data,
                "Give --train and --valid, or --data, not both.",
            ),
            (
                settings.context_window >= settings.block_size,
                "--context-window has to be less than --block-size.",
            ),
            (
                settings.cutoffs is not None
                and LANGUAGE_SIZES[settings.configuration].cutoffs is None,
                "--cutoffs is for configurations with adaptive softmax.",
            ),
        ):
            if wrong:
                raise InputError(message)

    def load(self, settings: Settings) -> Corpus:
        if settings.train:
            return load_files(settings.train, settings.valid, settings.test)
        words = settings.train_words
        if not settings.data:
            words = words or TOPIC_WORDS
        return load_corpus(settings, words)

    def begin(self, data: Corpus, settings: Settings) -> LanguageRun:
        return LanguageRun(data, settings)

    def title(self, data: Corpus, settings: Settings) -> str:
        title = super().title(data, settings)
        return f"{title}, dropout {settings.sizes.dropout:g}"

    def measures(self, data: Corpus) -> list[Column]:
        return [m for m in MEASURES if m.part in data.parts()]

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: {Perplexity(**{k: metrics[part][k] for k in COUNTS})}"
            for part in ("valid", "test")
            if part in metrics
        )

    def samples(
        self, data: Corpus, output: Path
    ) -> tuple[list[str], list[str]]:
        return ["The statement", "A function is", "If the object"], []


def load_corpus(
    given: Settings | Evaluate, train_words: int | None = None
) -> Corpus:
    """Returns the corpus of `--corpus` and `--data`, or the default."""
    if given.corpus == "debian":
        if not given.data:
            raise InputError(
                "--corpus debian needs --data DIR, where its files are; see "
                "docs/datasets.md."
            )
        return load_debian_text(given.data, train_words)
    if given.data:
        return load_wikitext(given.data)
    return load_topics(train_words)


TASK = LanguageModeling()
