"""The settings of summarization."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce.decoding.summarize import Decoding
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeRate
from reproduce.flags import MaybeText
from reproduce.flags import NotNegative
from reproduce.tasks.text import PairSettings

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
