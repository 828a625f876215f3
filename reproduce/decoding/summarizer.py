"""A summarizer of strings: tokenizer, model and beam search."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.errors import InputError
from reproduce.data.bart_tokenizers import Tokenizer
from reproduce.data.bart_tokenizers import load_tokenizer
from reproduce.data.bart_tokenizers import save_tokenizer
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.summarize import Decoding
from reproduce.decoding.summarize import summarize
from reproduce.decoding.text_to_text import DECODING
from reproduce.decoding.text_to_text import TextToText
from reproduce.decoding.text_to_text import load_model
from reproduce.models.bart import RDropBartSeq2SeqLM

ARTICLES = 32


class Summarizer(TextToText):
    """Summarizes articles.

    Args:
        model: The model.
        tokenizer: The tokenizer of the model.
        longest: The maximum number of ids of an article. The rest is ignored.
        decoding: The settings of the search.
        batch_size: The number of articles to summarize at a time.
    """

    output = "summary"

    def __init__(
        self,
        model: RDropBartSeq2SeqLM,
        tokenizer: Tokenizer,
        longest: int,
        decoding: Decoding,
        batch_size: int = ARTICLES,
    ):
        _check(model, tokenizer, longest, decoding)
        super().__init__(model, tokenizer, tokenizer, decoding, batch_size)
        self.longest = longest
        self.begin = (tokenizer.bos,)

    @classmethod
    def load(
        cls, directory: Path, batch_size: int = ARTICLES, **decoding: Any
    ) -> Summarizer:
        """Reads the files that `save` wrote.

        Args:
            directory: The directory of a run.
            batch_size: The number of articles to summarize at a time.
            **decoding: Fields of `Decoding` that replace the settings of the
                run. None keeps a setting.

        Raises:
            InputError: If the directory has no finished run.
        """
        model, settings = load_model(directory, DECODING, **decoding)
        longest = settings.pop("longest")
        tokenizer = load_tokenizer(directory)
        return cls(model, tokenizer, longest, Decoding(**settings), batch_size)

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"longest": self.longest}

    def save_tokenizers(self, directory: Path) -> None:
        save_tokenizer(self.target, directory)

    def search(self, source_ids: Any) -> Hypotheses:
        return summarize(
            self.model,
            source_ids,
            self.target.bos,
            self.target.special,
            self.decoding,
        )


def _check(
    model: RDropBartSeq2SeqLM,
    tokenizer: Tokenizer,
    longest: int,
    decoding: Decoding,
) -> None:
    positions = model.backbone.max_sequence_length
    # The decoder reads its start id and all ids except the last one.
    for name, needed in (
        ("--max-source-length", longest),
        ("--max-length", decoding.max_length + 1),
    ):
        if needed > positions:
            raise InputError(
                f"{name}: expected at most what the model has positions for, "
                f"{positions}, got {needed}."
            )
    if decoding.min_length > decoding.max_length:
        raise InputError(
            f"--min-length {decoding.min_length}: expected at most "
            f"--max-length, {decoding.max_length}."
        )
    size = model.backbone.vocabulary_size
    if tokenizer.vocabulary_size > size:
        raise InputError(
            f"Expected a tokenizer of at most the model's {size} ids, got "
            f"{tokenizer.vocabulary_size}."
        )
