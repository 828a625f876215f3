"""What translation and summarization share: tasks on pairs of texts."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import ClassVar

import keras

from reproduce import flags
from reproduce.common import runs
from reproduce.common.checkpoints import Checkpoints
from reproduce.common.comparison import Measure
from reproduce.common.errors import InputError
from reproduce.common.strategies import strategy_of
from reproduce.data.batching import Batching
from reproduce.data.batching import EncodedPairs
from reproduce.data.corpora import Corpus
from reproduce.data.parallel_text import ParallelText
from reproduce.data.parallel_text import read_parallel
from reproduce.decoding.text_to_text import TextToText
from reproduce.task import Run
from reproduce.task import Task
from reproduce.tasks.text import TextSettings
from reproduce.tasks.text import generate_lines

FILES = tuple(
    f"{part}_{side}"
    for part in ("train", "valid", "test")
    for side in ("source", "target")
)


@dataclass(frozen=True, kw_only=True)
class PairSettings(TextSettings):
    """Settings of data, batches and checkpoints for parallel text."""

    train_source: flags.MaybePath = None
    """Own data: UTF-8 files with one text per line."""
    train_target: flags.MaybePath = None
    valid_source: flags.MaybePath = None
    valid_target: flags.MaybePath = None
    test_source: flags.MaybePath = None
    test_target: flags.MaybePath = None
    data: flags.MaybePath = None
    """The directory of the paper's dataset; see docs/datasets.md."""
    train_pairs: flags.MaybeCount = 1
    """The number of training pairs of the default corpus."""
    vocabulary_size: flags.Count = 500
    """The number of subwords."""
    max_tokens: flags.Count = 512
    """The maximum number of tokens per side of a batch, with padding."""
    max_pairs: flags.MaybeCount = None
    """The maximum number of pairs in a batch."""
    label_smoothing: flags.Rate = 0.1
    """The label smoothing of the task loss."""
    validate_every: flags.Count = 1
    """The number of epochs between evaluations by generation."""
    average: flags.CountOrZero = 0
    """Average the weights of this many last validated epochs; 0: use the
    weights of the best score."""
    beam_size: flags.Count = 4
    """The beam size; 1 is greedy search."""
    length_penalty: float = 1.0
    """The exponent of the length by which scores are divided."""

    @property
    def files(self) -> dict[str, Path | None]:
        """The parallel files, as arguments of `load_files`."""
        return {name: getattr(self, name) for name in FILES}

    def check_files(self) -> None:
        """Raises `InputError` if parallel files are given incompletely."""
        *needed, test_source, test_target = self.files.values()
        tests = (test_source, test_target)
        if any(needed) and not all(needed):
            raise InputError(
                "--train-source, --train-target, --valid-source and "
                "--valid-target come together."
            )
        if any(tests) and not all(tests):
            raise InputError("--test-source and --test-target come together.")
        if any(tests) and not any(needed):
            raise InputError("--test-source needs --train-source.")
        if any(needed) and self.data:
            raise InputError("Give parallel files, or --data, not both.")


@dataclass(frozen=True, kw_only=True)
class GenerateLines:
    """A verb that generates a text from each line."""

    source: flags.MaybePath = None
    """A file with one text per line; none: standard input."""

    def run(self) -> None:
        """Prints the generated texts."""
        generator = self.load()
        generate_lines(generator.generate, self.source, generator.batch_size)


@dataclass(frozen=True, kw_only=True)
class ScoreLines:
    """A verb that generates a text from each line and scores the texts."""

    source: Path
    """A file with one text per line."""
    reference: Path
    """The references, line by line."""

    def run(self) -> None:
        """Prints the scores."""
        text, _ = read_parallel(self.source, self.reference)
        print(self.score(self.load(), text))


class PairRun(Run):
    """One run: an encoded corpus and a compiled model.

    `facts` are those about the training pairs, for `metrics.json`.
    """

    corpus: Corpus
    settings: Any
    pairs: EncodedPairs
    batching: Batching
    facts: dict[str, Any]

    def generator(self, **changes: Any) -> TextToText:
        """Returns the current model with other settings of decoding."""
        raise NotImplementedError

    def score(self, generator: TextToText, text: ParallelText) -> Any:
        """Generates texts and returns their scores."""
        raise NotImplementedError

    def encoded(self, text: ParallelText) -> EncodedPairs:
        """Returns the ids of a part of the corpus."""
        raise NotImplementedError

    def prepared(self, batches: keras.utils.PyDataset) -> Any:
        """Returns batches in the form that the model reads."""
        return batches

    def batches(self, epoch: Any) -> keras.utils.PyDataset:
        return self.prepared(
            self.batching.training_batches(
                self.pairs, self.settings.seed, epoch
            )
        )

    def evaluation(self, text: ParallelText) -> keras.utils.PyDataset:
        """Returns the batches of a part in which it is evaluated."""
        pairs = self.encoded(text)
        batching = self.batching.reaching(int(pairs.lengths.max(initial=1)))
        return self.prepared(batching.evaluation_batches(pairs))

    def callbacks(self, output: Path) -> list[keras.callbacks.Callback]:
        # Greedy search takes a fifth of the time and ranks epochs well enough.
        greedy = self.generator(beam_size=1)
        settings, valid = self.settings, self.corpus.valid
        strategy = strategy_of(settings)
        count = getattr(settings, "validate_on", None)
        few = ParallelText(valid.sources[:count], valid.targets[:count])
        self._checkpoints = Checkpoints(
            output / runs.CHECKPOINTS,
            lambda: strategy.of_chief(self.score(greedy, few).values()),
            settings.validate_every,
            max(settings.average, 1),
            settings.patience,
        )
        return [self._checkpoints]

    def finish(self, output: Path, history: Any) -> dict[str, Any]:
        chosen = self._checkpoints.choose(self.settings.average)
        generator = self.generator()
        generator.save(output)
        found = {
            "data": self.facts,
            "vocabulary": generator.target.vocabulary_size,
            "chosen_epochs": chosen,
        }
        for part in ("valid", "test"):
            if text := getattr(self.corpus, part):
                losses = self.model.evaluate(
                    self.evaluation(text), verbose=0, return_dict=True
                )
                found[part] = losses | asdict(self.score(generator, text))
        return found


class PairTask(Task):
    """A task on pairs of texts, with the columns of a comparison's table."""

    columns: ClassVar[list[Measure]]

    def measures(self, data: Corpus) -> list[Measure]:
        return [m for m in self.columns if data.test or m.part != "test"]

    def samples(
        self, data: Corpus, output: Path
    ) -> tuple[list[str], list[str]]:
        text = data.test or data.valid
        # Three pairs, evenly spaced.
        places = range(0, len(text), max(len(text) // 3, 1))[:3]
        return (
            [text.sources[place] for place in places],
            [text.targets[place] for place in places],
        )
