"""The settings of summarization."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce import flags
from reproduce.decoding.summarizer import Decoding
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

    alpha: flags.NotNegative = 0.7
    epochs: flags.Count = 8
    output: Path = Path("runs/summarization")
    train_pairs: flags.Count = 4000
    """The number of training pairs of the default corpus."""
    vocabulary_size: flags.Count = 2000
    """The number of subwords, without --preset."""
    max_tokens: flags.Count = 1024
    warm_up: flags.CountOrZero = 100
    weight_decay: flags.NotNegative = 0.01
    validate_every: flags.Count = 2
    """The number of epochs between summaries of the validation part."""
    validate_on: flags.MaybeCount = None
    """The number of validation articles to summarize; none: all."""
    tfds: flags.MaybeText = None
    """A dataset of tensorflow-datasets, prepared in --data."""
    preset: flags.MaybeText = None
    """Start from a pretrained BART: a directory in KerasHub's or Hugging
    Face's format, or the name of a preset that KerasHub downloads."""
    configuration: Literal["tiny", "base", "large"] | None = None
    """The size of a BART from scratch; without --preset, tiny."""
    dropout: flags.MaybeRate = None
    """Dropout rate of all layers; none: the model's own."""
    max_source_length: flags.Count = 48
    """The maximum number of tokens of an article; the rest is cut."""
    max_target_length: flags.Count = 32
    """The maximum number of tokens of a training summary."""
    power: flags.NotNegative = 1.0
    """The power of the polynomial decay of the learning rate to 0."""
    clip_norm: flags.NotNegative = 0.1
    """The largest norm of the whole gradient; 0: any."""
    summed_loss: bool = False
    """With two passes, make the updates of the paper's loss, which is the sum
    over passes (ours is the mean), by halving clipping norm and epsilon.
    Recipes set this flag."""
    min_length: flags.CountOrZero = 2
    """The minimum number of tokens of a summary, including <s>."""
    max_length: flags.Count = 40
    """The maximum number of tokens of a summary, including <s>."""
    no_repeat_ngram_size: flags.CountOrZero = 3
    """The length of n-grams that a summary must not repeat; 0: any."""
    decoding_batch: flags.Count = 32
    """The number of articles to summarize at a time."""

    @property
    def decoding(self) -> Decoding:
        """The settings of the final summarization."""
        return Decoding(**{name: getattr(self, name) for name in DECODING})
