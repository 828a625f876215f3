"""Language modelling with a Transformer."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras
import tyro

from rdrop_keras.recipes import InverseSquareRoot
from rdrop_keras.recipes import LinearWarmup
from rdrop_keras.recipes import PerUpdate
from reproduce import outputs
from reproduce.common import runs
from reproduce.common.arms import TWO_PASSES
from reproduce.common.checkpoints import average_weights
from reproduce.common.comparison import Measure as Column
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.common.recipes import accumulation
from reproduce.common.recipes import recipe_of
from reproduce.data.blocks import Blocks
from reproduce.data.blocks import steps_per_epoch
from reproduce.data.blocks import training_batches
from reproduce.data.blocks import training_blocks
from reproduce.data.language_corpus import Corpus
from reproduce.data.language_corpus import LineFile
from reproduce.data.language_corpus import checked
from reproduce.data.language_corpus import load_files
from reproduce.data.language_corpus import load_wikitext
from reproduce.data.topics import load_topics
from reproduce.data.vocabulary import Stream
from reproduce.data.vocabulary import encode_lines
from reproduce.data.vocabulary import learn_vocabulary
from reproduce.decoding.generator import Generator
from reproduce.decoding.generator import Sampling
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import Cutoffs
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeCountOrZero
from reproduce.flags import MaybeNotNegative
from reproduce.flags import MaybePath
from reproduce.flags import MaybePositive
from reproduce.flags import MaybeRate
from reproduce.flags import NotNegative
from reproduce.flags import Rate
from reproduce.models.language_model import LanguageModel
from reproduce.models.language_sizes import CONFIGURATIONS
from reproduce.models.language_sizes import Configuration
from reproduce.scores.perplexity import Measure
from reproduce.scores.perplexity import Perplexity
from reproduce.task import Run
from reproduce.task import Task
from reproduce.task import epochs_for
from reproduce.tasks.text import TextSettings
from reproduce.tasks.text import stated

# By optimizer: what a tiny model reaches without a search.
LEARNING_RATES = {"adam": 2e-3, "nesterov": 0.1}
RATES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "softmax_dropout",
)
RECIPE_MODELS = {
    "transformer_lm_gpt": "gpt",
    "transformer_lm_wiki103": "wiki103",
}
BEST = "best.weights.h5"

Schedule = keras.optimizers.schedules.LearningRateSchedule


@dataclass(frozen=True, kw_only=True)
class Settings(TextSettings):
    """The flags of `train language_modeling`."""

    epochs: Count = 16
    """How often to go through the training part."""
    output: Path = Path("runs/language_modeling")
    """The directory to write."""
    weight_decay: NotNegative = 0.01
    """Decoupled weight decay."""
    train: MaybePath = None
    """Own data: a UTF-8 text."""
    valid: MaybePath = None
    test: MaybePath = None
    data: MaybePath = None
    """A directory of wiki.train.tokens, wiki.valid.tokens and
    wiki.test.tokens, as WikiText is published."""
    # So few that a tiny model over-fits them: what R-Drop is there for.
    train_words: Count = 16_000
    """How many words of the default corpus to train on."""
    vocabulary: Literal["subwords", "words"] = "subwords"
    """Learned from the training part."""
    vocabulary_size: CountOrZero = 1000
    """How many ids; 0: all words."""
    configuration: Literal["tiny", "tiny_adaptive", "gpt", "wiki103"] = "tiny"
    """The size of the model."""
    dropout: MaybeRate = None
    """Dropout rate of embeddings and residuals; none: the configuration's."""
    attention_dropout: MaybeRate = None
    """Of attention probabilities; none: the configuration's."""
    activation_dropout: MaybeRate = None
    """Of feed-forward activations; none: the configuration's."""
    softmax_dropout: MaybeRate = None
    """Of the adaptive softmax; none: the configuration's."""
    cutoffs: Cutoffs = None
    """Where the clusters of an adaptive softmax begin; none: the
    configuration's."""
    block_size: Count = 64
    """How many tokens the model sees at once."""
    context_window: CountOrZero = 0
    """In validation and test, how many of them are only looked at: tokens of
    the block before."""
    batch_size: Count = 8
    """Blocks in a batch."""
    optimizer: Literal["adam", "nesterov"] = "adam"
    """The optimizer."""
    schedule: Literal["inverse_square_root", "cosine"] = "inverse_square_root"
    """Of the learning rate, after the warm-up."""
    initial_learning_rate: NotNegative = 1e-7
    """That of the first update."""
    end_learning_rate: NotNegative = 0.0
    """That of the last update, of a cosine."""
    momentum: Rate = 0.99
    """Of Nesterov's optimizer."""
    clip_norm: MaybePositive = None
    """The largest norm of the gradient."""
    summed_loss: bool = False
    """With two passes, make the updates of the paper's loss, which is the sum
    over the passes where ours is the mean. Recipes do."""
    new_tokens: Count = 40
    """How many tokens the SavedModel goes on for."""
    temperature: NotNegative = 0.8
    """Of its sampling; 0 is greedy."""
    top_k: CountOrZero = 0
    """Sample from so many tokens; 0: all."""
    top_p: NotNegative = 0.95
    """Sample from the tokens that have this probability together."""

    @property
    def sizes(self) -> Configuration:
        """The sizes and rates of the model."""
        changes = {name: getattr(self, name) for name in (*RATES, "cutoffs")}
        return dataclasses.replace(
            CONFIGURATIONS[self.configuration], **stated(changes)
        )

    @property
    def sampling(self) -> Sampling:
        """How to go on with a text."""
        return Sampling(
            new_tokens=self.new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            context=self.block_size,
        )


class LanguageRun(Run):
    """A corpus as the model sees it, and the model.

    Args:
        corpus: What to learn.
        settings: How to.

    Raises:
        InputError: If the vocabulary does not fit the corpus or the model.
    """

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
        self.blocks = training_blocks(
            self.streams["train"].ids, settings.block_size
        )
        self.epochs = epochs_for(settings, _per_epoch(self.blocks, settings))
        self.model = LanguageModel(
            size, dtype=settings.policy, **asdict(settings.sizes)
        )
        updates = self.epochs * _per_epoch(self.blocks, settings)
        compile_model(self.model, settings, updates)
        self.measure = Measure(
            self.model,
            settings.block_size,
            settings.context_window,
            settings.batch_size,
        )

    def batches(self, epoch: Any) -> keras.utils.PyDataset:
        return training_batches(
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
        # First the one that logs what the others look at.
        validate = Validate(self.measure, self.streams["valid"])
        return [validate, *self._remembered]

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


class Validate(keras.callbacks.Callback):
    """Logs `val_loss` and the perplexities of the validation part.

    The mean is over all tokens, in nats. Keras's own, of `validation_data`, is
    one over batches, of which the last has fewer tokens.

    Args:
        measure: Measures the model that is trained.
        stream: The validation part.
    """

    def __init__(self, measure: Measure, stream: Stream):
        super().__init__()
        self.measure = measure
        self.stream = stream

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        found = self.measure(self.stream)
        if logs is not None:
            logs["val_loss"] = found.loss
            logs["val_token_perplexity"] = found.token_perplexity
            logs["val_word_perplexity"] = found.word_perplexity


def compile_model(
    model: LanguageModel, settings: Settings, updates: int
) -> None:
    """Compiles a model as a run of so many updates does."""
    model.compile(
        optimizer_of(settings, updates),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=settings.rdrop,
        jit_compile=settings.compiled,
    )


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for so many updates."""
    times = 1.0
    if settings.summed_loss and settings.arm in TWO_PASSES:
        # The gradient of a mean is half that of the sum.
        times = 2.0
    options: dict[str, Any] = {}
    if settings.clip_norm is not None:
        options["global_clipnorm"] = settings.clip_norm / times
    nesterov = settings.optimizer == "nesterov"
    # Adam divides by the size of the gradient, whatever it is.
    rate = learning_rate(settings, updates, times if nesterov else 1.0)
    if settings.accumulate > 1:
        options["gradient_accumulation_steps"] = settings.accumulate
        rate = PerUpdate(rate, settings.accumulate)
    if nesterov:
        # Keras's decay is weight_decay * learning rate.
        return keras.optimizers.SGD(
            rate,
            momentum=settings.momentum,
            nesterov=True,
            weight_decay=settings.weight_decay / times or None,
            **options,
        )
    return keras.optimizers.Adam(
        rate,
        beta_1=0.9,
        beta_2=0.98,
        epsilon=1e-8 / times,
        weight_decay=settings.weight_decay or None,
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
        # A run that is not longer than its warm-up ends in it.
        max(updates - settings.warm_up, 1),
        settings.end_learning_rate / base,
    )
    return LinearWarmup(decay, settings.warm_up, initial)


def _per_epoch(blocks: Blocks, settings: Settings) -> int:
    steps = steps_per_epoch(blocks, settings.batch_size)
    return max(steps // settings.accumulate, 1)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measures the perplexity of a text."""

    model: Path
    """The --output of a training."""
    text: MaybePath = None
    """A UTF-8 text; none: --part of --data or of the default corpus."""
    data: MaybePath = None
    """As for train."""
    part: Literal["train", "valid", "test"] = "test"
    """Of --data or of the default corpus."""
    block_size: MaybeCount = None
    """How many tokens the model sees at once; none: as in the training."""
    context_window: MaybeCountOrZero = None
    """How many of them are only looked at; none: as in the training."""
    batch_size: Count = 8
    """Blocks in a batch."""

    def run(self) -> None:
        """Prints the perplexity."""
        # First: it costs least to find out that it is not there.
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
        corpus = load_wikitext(self.data) if self.data else load_topics()
        return corpus.parts()[self.part]


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Goes on with texts."""

    model: Path
    """The --output of a training."""
    prompt: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to go on with, may be given several times; without: standard input,
    a prompt a line."""
    new_tokens: MaybeCount = None
    """How many tokens to go on for; none: as in the training, and so are the
    others."""
    temperature: MaybeNotNegative = None
    """0 is greedy."""
    top_k: MaybeCountOrZero = None
    """Sample from so many tokens; 0: all."""
    top_p: MaybeNotNegative = None
    """Sample from the tokens that have this probability together."""
    seed: MaybeCountOrZero = None
    """What is drawn depends on it."""

    def run(self) -> None:
        """Prints each prompt and what follows."""
        names = ("new_tokens", "temperature", "top_k", "top_p", "seed")
        generator = Generator.load(
            self.model, **{name: getattr(self, name) for name in names}
        )
        if self.prompt:
            for prompt, text in zip(self.prompt, generator.go_on(self.prompt)):
                print(f"{prompt} [...] {text}")
            return
        # As they come, so that a pipe need not end to be answered.
        for line in sys.stdin:
            prompt = line.rstrip("\r\n")
            print(f"{prompt} [...] {generator.go_on([prompt])[0]}", flush=True)


class LanguageModeling(Task):
    """Predicts the next token of a text."""

    name = "language_modeling"
    summary = "language modelling with a Transformer"
    settings = Settings
    score = Score("token_perplexity", "validation perplexity by token")
    packages = ("keras-hub",)
    verbs = {"evaluate": Evaluate, "generate": Generate}

    def recipe_settings(self, name: str) -> dict[str, Any]:
        recipe = recipe_of("language_modeling", name)
        optimizer, schedule = recipe.optimizer_settings, recipe.schedule
        dropout, batch = recipe.dropout, recipe.batch
        settings = {
            "alpha": recipe.alpha,
            "configuration": RECIPE_MODELS[recipe.model.name],
            "dropout": dropout.rate,
            "attention_dropout": dropout.attention,
            "activation_dropout": dropout.activation,
            "softmax_dropout": dropout.adaptive_softmax,
            "vocabulary": recipe.vocabulary.kind,
            "vocabulary_size": 0,
            "cutoffs": recipe.vocabulary.adaptive_cutoffs,
            "block_size": batch.sequence_length,
            "batch_size": max(batch.tokens // batch.sequence_length, 1),
            "accumulate": accumulation(recipe),
            "optimizer": optimizer.name,
            "schedule": schedule.kind,
            "learning_rate": schedule.learning_rate,
            "initial_learning_rate": schedule.initial_learning_rate,
            "end_learning_rate": schedule.end_learning_rate,
            "warm_up": schedule.warmup_updates,
            "updates": schedule.total_updates,
            "weight_decay": optimizer.weight_decay,
            "momentum": optimizer.momentum,
            "clip_norm": optimizer.global_clipnorm,
            "summed_loss": True,
            "context_window": recipe.decoding.context_window,
            "vocabulary_chunk": "auto",
        }
        return stated(settings)

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
                and CONFIGURATIONS[settings.configuration].cutoffs is None,
                "--cutoffs is for configurations with adaptive softmax.",
            ),
        ):
            if wrong:
                raise InputError(message)

    def load(self, settings: Settings) -> Corpus:
        if settings.train:
            return load_files(settings.train, settings.valid, settings.test)
        if settings.data:
            return load_wikitext(settings.data)
        return load_topics(settings.train_words)

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


COUNTS = ("nats", "tokens", "words")
MEASURES = [
    Column("valid", "token_perplexity", "validation perplexity by token"),
    Column("test", "word_perplexity", "test perplexity by word"),
    Column("test", "token_perplexity", "test perplexity by token"),
    Column("test", "loss", "test loss, nats", digits=3),
]
TASK = LanguageModeling()
