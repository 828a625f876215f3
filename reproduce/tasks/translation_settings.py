"""The settings of machine translation."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce.decoding.translator import Decoding
from reproduce.flags import Count
from reproduce.flags import MaybePath
from reproduce.flags import MaybeRate
from reproduce.flags import MaybeRatio
from reproduce.flags import NotNegative
from reproduce.models.translation_sizes import CONFIGURATIONS
from reproduce.models.translation_sizes import Configuration
from reproduce.tasks.text import PairSettings
from reproduce.tasks.text import stated

RATES = ("dropout", "attention_dropout", "activation_dropout")


@dataclass(frozen=True, kw_only=True)
class Settings(PairSettings):
    """The flags of `train translation`."""

    alpha: NotNegative = 5.0
    """Weight of the consistency, the paper's alpha."""
    epochs: Count = 60
    """How often to go through the training part."""
    output: Path = Path("runs/translation")
    """The directory to write."""
    # So few that a tiny model over-fits them: what R-Drop is there for.
    train_pairs: Count = 600
    """How many training pairs of the default corpus to use."""
    max_tokens: Count = 256
    """The most tokens of a side of a batch, padding included."""
    validate_every: Count = 5
    """Translate the validation part after so many epochs."""
    train_tsv: MaybePath = None
    """Own data: UTF-8, two columns, source and target."""
    valid_tsv: MaybePath = None
    test_tsv: MaybePath = None
    source_language: str = "en"
    """Its code."""
    target_language: str = "de"
    """Its code."""
    configuration: Literal["tiny", "iwslt", "big"] = "tiny"
    """The size of the model."""
    dropout: MaybeRate = None
    """Dropout rate of embeddings and residuals; none: the configuration's."""
    attention_dropout: MaybeRate = None
    """Of attention probabilities; none: the configuration's."""
    activation_dropout: MaybeRate = None
    """Of feed-forward activations; none: the configuration's."""
    separate_vocabularies: bool = False
    """Subwords and embeddings of its own for each side."""
    max_length: Count = 175
    """Leave out training pairs with more subwords on a side."""
    max_ratio: MaybeRatio = None
    """Leave out training pairs with a side so many times as long as the other.
    """
    beam_size: Count = 5
    """Of the beam search; 1 is greedy."""
    length_penalty: float = 1.0
    """The power of the length by which scores are divided."""

    @property
    def sizes(self) -> Configuration:
        """The sizes and rates of the model."""
        rates = stated({name: getattr(self, name) for name in RATES})
        return dataclasses.replace(CONFIGURATIONS[self.configuration], **rates)

    @property
    def decoding(self) -> Decoding:
        """How to translate at the end."""
        return Decoding(self.beam_size, self.length_penalty)
