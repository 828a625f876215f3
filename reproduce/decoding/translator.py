"""A translator of strings: subwords, model and beam search."""

from __future__ import annotations

from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reproduce.data.subwords import Subwords
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.text_to_text import DECODING
from reproduce.decoding.text_to_text import TextToText
from reproduce.decoding.text_to_text import load_model
from reproduce.decoding.translate import translate
from reproduce.models.translation import Transformer

# Without gradients, decoding has memory for larger batches.
SENTENCES = 64
SUBWORDS = "subwords.model"
SOURCE_SUBWORDS = "source_subwords.model"


@dataclass(frozen=True)
class Decoding:
    """Settings of the search for translations; see `translate`."""

    beam_size: int = 5
    length_penalty: float = 1.0
    max_length_factor: float = 1.2
    max_length_offset: int = 10
    min_length: int = 1


class Translator(TextToText):
    """Translates sentences.

    Args:
        model: The model.
        source: The subwords of the sources.
        target: The subwords of the targets, the same object if joint.
        decoding: The settings of the search.
    """

    output = "translation"

    def __init__(
        self,
        model: Transformer,
        source: Subwords,
        target: Subwords,
        decoding: Decoding,
    ):
        super().__init__(model, source, target, decoding, SENTENCES)

    @classmethod
    def load(cls, directory: Path, **decoding: Any) -> Translator:
        """Reads the files that `save` wrote.

        Args:
            directory: The directory of a run.
            **decoding: Fields of `Decoding` that replace the settings of the
                run. None keeps a setting.

        Raises:
            InputError: If the directory has no finished run.
        """
        model, settings = load_model(directory, DECODING, **decoding)
        target = Subwords.load(directory / SUBWORDS)
        source = target
        if (directory / SOURCE_SUBWORDS).exists():
            source = Subwords.load(directory / SOURCE_SUBWORDS)
        return cls(model, source, target, Decoding(**settings))

    def save_tokenizers(self, directory: Path) -> None:
        self.target.save(directory / SUBWORDS)
        if self.source is not self.target:
            self.source.save(directory / SOURCE_SUBWORDS)

    def search(self, source_ids: Any) -> Hypotheses:
        return translate(self.model, source_ids, **asdict(self.decoding))
