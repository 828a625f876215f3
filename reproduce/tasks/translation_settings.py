"""The settings of machine translation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reproduce import flags
from reproduce.decoding.translator import Decoding
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.sizes import TranslationSizes
from reproduce.tasks.pairs import PairSettings
from reproduce.tasks.text import ModelSettings


@dataclass(frozen=True, kw_only=True)
class Settings(PairSettings, ModelSettings):
    """The flags of `train translation`."""

    alpha: flags.NotNegative = 5.0
    epochs: flags.Count = 60
    output: Path = Path("runs/translation")
    corpus: Literal["iwslt14", "debian", "libreoffice_help"] = "iwslt14"
    """What --data has: the files of prepare-iwslt14.sh, Debian's package
    descriptions, or LibreOffice's help."""
    train_pairs: flags.MaybeCount = None
    """The number of training pairs; none: 600 of the default corpus, all of
    Debian's and LibreOffice's."""
    maximum_words: flags.MaybeCount = None
    """Keep pairs of at most this many words on a side, of Debian's and
    LibreOffice's; none: all."""
    max_tokens: flags.Count = 256
    validate_every: flags.Count = 5
    """The number of epochs between translations of the validation part."""
    train_tsv: flags.MaybePath = None
    """Own data: UTF-8, two columns, source and target."""
    valid_tsv: flags.MaybePath = None
    test_tsv: flags.MaybePath = None
    source_language: str = "en"
    """The language code."""
    target_language: str = "de"
    """The language code."""
    configuration: Literal["tiny", "iwslt", "big"] = "tiny"
    """The size of the model."""
    separate_vocabularies: bool = False
    """Use separate subwords and embeddings for source and target."""
    max_length: flags.Count = 175
    """Exclude training pairs with more subwords on a side."""
    max_ratio: flags.MaybeRatio = None
    """Exclude training pairs with a higher ratio of the two lengths."""
    beam_size: flags.Count = 5

    @property
    def sizes(self) -> TranslationSizes:
        """The sizes and rates of the model."""
        return self.replaced(TRANSLATION_SIZES[self.configuration])

    @property
    def decoding(self) -> Decoding:
        """The settings of the final translation."""
        return Decoding(self.beam_size, self.length_penalty)
