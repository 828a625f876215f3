"""The settings of language modelling."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce.decoding.generator import Sampling
from reproduce.flags import Count
from reproduce.flags import CountOrZero
from reproduce.flags import Cutoffs
from reproduce.flags import MaybePath
from reproduce.flags import MaybePositive
from reproduce.flags import MaybeRate
from reproduce.flags import NotNegative
from reproduce.flags import Rate
from reproduce.models.language_sizes import CONFIGURATIONS
from reproduce.models.language_sizes import Configuration
from reproduce.tasks.text import TextSettings
from reproduce.tasks.text import stated

RATES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "softmax_dropout",
)


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
