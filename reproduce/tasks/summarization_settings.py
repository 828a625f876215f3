"""The settings of summarization."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce.decoding.summarizer import Decoding
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeRate
from reproduce.flags import MaybeText
from reproduce.flags import NotNegative
from reproduce.tasks.pairs import PairSettings

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
    epochs: Count = 8
    output: Path = Path("runs/summarization")
    train_pairs: Count = 4000
    """The number of training pairs of the default corpus."""
    vocabulary_size: Count = 2000
    """The number of subwords, without --preset."""
    max_tokens: Count = 1024
    warm_up: CountOrZero = 100
    weight_decay: NotNegative = 0.01
    validate_every: Count = 2
    """The number of epochs between summaries of the validation part."""
    validate_on: MaybeCount = None
    """The number of validation articles to summarize; none: all."""
    tfds: MaybeText = None
    """A dataset of tensorflow-datasets, prepared in --data."""
    preset: MaybeText = None
    """Start from a pretrained BART: a directory in KerasHub's or Hugging
    Face's format, or the name of a preset that KerasHub downloads."""
    configuration: Literal["tiny", "base", "large"] | None = None
    """The size of a BART from scratch; without --preset, tiny."""
    dropout: MaybeRate = None
    """Dropout rate of all layers; none: the model's own."""
    max_source_length: Count = 48
    """The maximum number of tokens of an article; the rest is cut."""
    max_target_length: Count = 32
    """The maximum number of tokens of a training summary."""
    power: NotNegative = 1.0
    """The power of the polynomial decay of the learning rate to 0."""
    clip_norm: NotNegative = 0.1
    """The largest norm of the whole gradient; 0: any."""
    summed_loss: bool = False
    """With two passes, make the updates of the paper's loss, which is the sum
    over passes (ours is the mean), by halving clipping norm and epsilon.
    Recipes set this flag."""
    beam_size: Count = 4
    """The beam size; 1 is greedy search."""
    min_length: CountOrZero = 2
    """The minimum number of tokens of a summary, including <s>."""
    max_length: Count = 40
    """The maximum number of tokens of a summary, including <s>."""
    no_repeat_ngram_size: CountOrZero = 3
    """The length of n-grams that a summary must not repeat; 0: any."""
    decoding_batch: Count = 32
    """The number of articles to summarize at a time."""

    @property
    def decoding(self) -> Decoding:
        """The settings of the final summarization."""
        return Decoding(**{name: getattr(self, name) for name in DECODING})
