"""The settings of language modelling."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce import flags
from reproduce.decoding.generator import Sampling
from reproduce.models.sizes import LANGUAGE_SIZES
from reproduce.models.sizes import LanguageSizes
from reproduce.tasks.text import ModelSettings


@dataclass(frozen=True, kw_only=True)
class Settings(ModelSettings):
    """The flags of `train language_modeling`."""

    epochs: flags.Count = 16
    output: Path = Path("runs/language_modeling")
    weight_decay: flags.NotNegative = 0.01
    train: flags.MaybePath = None
    """Own data: a UTF-8 text."""
    valid: flags.MaybePath = None
    test: flags.MaybePath = None
    data: flags.MaybePath = None
    """A directory of wiki.train.tokens, wiki.valid.tokens and
    wiki.test.tokens, as WikiText is published, or of Debian's files."""
    corpus: Literal["wikitext", "debian"] = "wikitext"
    """What --data has: WikiText, or Debian's package descriptions."""
    train_words: flags.MaybeCount = None
    """The number of training words; none: 16,000 of the default corpus, all of
    Debian's."""
    vocabulary: Literal["subwords", "words"] = "subwords"
    """The kind of vocabulary to learn from the training data."""
    vocabulary_size: flags.CountOrZero = 1000
    """The number of ids; 0: all words."""
    configuration: Literal["tiny", "tiny_adaptive", "gpt", "wiki103"] = "tiny"
    """The size of the model."""
    softmax_dropout: flags.MaybeRate = None
    """The dropout rate of the softmax; none: the configuration's."""
    cutoffs: flags.Cutoffs = None
    """Where the clusters of an adaptive softmax begin; none: the
    configuration's."""
    block_size: flags.Count = 64
    """The number of tokens that the model sees at once."""
    context_window: flags.CountOrZero = 0
    """The number of context tokens in a block of validation and test, taken
    from the previous block."""
    batch_size: flags.Count = 8
    """The number of blocks in a batch."""
    optimizer: Literal["adam", "nesterov"] = "adam"
    """The optimizer."""
    schedule: Literal["inverse_square_root", "cosine"] = "inverse_square_root"
    """The decay of the learning rate after the warm-up."""
    initial_learning_rate: flags.NotNegative = 1e-7
    """The learning rate of the first update."""
    end_learning_rate: flags.NotNegative = 0.0
    """The learning rate of the last update of a cosine."""
    momentum: flags.Rate = 0.99
    """The momentum of the optimizer nesterov."""
    clip_norm: flags.MaybePositive = None
    """The largest norm of the gradient."""
    summed_loss: bool = False
    """With two passes, make the updates of the paper's loss, which is the sum
    over passes (ours is the mean). Recipes set this flag."""
    new_tokens: flags.Count = 40
    """The number of tokens that the SavedModel generates."""
    temperature: flags.NotNegative = 0.8
    """The temperature of its sampling; 0 is greedy."""
    top_k: flags.CountOrZero = 0
    """Sample from this many most probable tokens; 0: all."""
    top_p: flags.NotNegative = 0.95
    """Sample from the most probable tokens of this total probability."""

    @property
    def sizes(self) -> LanguageSizes:
        """The sizes and rates of the model."""
        return self.replaced(LANGUAGE_SIZES[self.configuration])

    @property
    def sampling(self) -> Sampling:
        """The settings of sampling."""
        return Sampling(
            new_tokens=self.new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            context=self.block_size,
        )
