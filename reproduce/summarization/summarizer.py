"""From articles to summaries: tokens, beam search and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.export import export_functions
from reproduce.summarization.decoding import Decoding
from reproduce.summarization.decoding import summarize
from reproduce.summarization.model import RDropBartSeq2SeqLM
from reproduce.summarization.tokenizers import BYTE_PAIRS
from reproduce.summarization.tokenizers import SUBWORDS
from reproduce.summarization.tokenizers import Tokenizer
from reproduce.summarization.tokenizers import load_tokenizer
from reproduce.summarization.tokenizers import source_ids
from reproduce.summarization.tokenizers import summary_texts

DECODING = "decoding.json"
ARTICLES = 32


class Summarizer(tf.Module):
    """A model with its tokenizer: articles in, summaries out.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        longest: The most ids of an article; the rest of it is not read.
        decoding: How to search.
        batch_size: How many articles to summarize at a time.
    """

    def __init__(
        self,
        model: RDropBartSeq2SeqLM,
        tokenizer: Tokenizer,
        longest: int,
        decoding: Decoding,
        batch_size: int = ARTICLES,
    ):
        super().__init__()
        _check(model, tokenizer, longest, decoding)
        self.model = model
        self.tokenizer = tokenizer
        self.longest = longest
        self.decoding = decoding
        self.batch_size = batch_size
        # One trace, whatever the number and the lengths of the texts.
        self.serve = tf.function(
            self._serve, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def summarize(self, texts: Sequence[str]) -> list[str]:
        """Returns the best summary of each article."""
        # Texts of like length together: a batch takes as long as its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        summaries = [""] * len(texts)
        for start in range(0, len(texts), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = tf.constant([texts[index] for index in chosen])
            found = self.serve(batch)["summary"].numpy()
            for index, summary in zip(chosen, found):
                summaries[index] = summary.decode()
        return summaries

    def save(self, directory: Path) -> None:
        """Writes what `load` reads, and a SavedModel, which needs none of it.

        The SavedModel's endpoint "serve" takes a batch of strings and returns
        for each its `summary` and `score`, the sum of its log-probabilities
        over the power of the length by which it was chosen.
        """
        self.model.save(directory / runs.MODEL)
        self.tokenizer.save(directory)
        settings = asdict(self.decoding) | {"longest": self.longest}
        runs.write_json(directory / DECODING, settings)
        signature = [tf.TensorSpec([None], tf.string, "texts")]
        export_functions(
            directory / runs.SAVED_MODEL,
            {"serve": (self._serve, signature)},
            [self.model, self.tokenizer.resource],
        )

    @classmethod
    def load(
        cls, directory: Path, batch_size: int = ARTICLES, **decoding: Any
    ) -> Summarizer:
        """Reads what `save` wrote.

        Args:
            directory: Where a run was written.
            batch_size: How many articles to summarize at a time.
            **decoding: What to search with instead of what the run did, by the
                names in `Decoding`.

        Raises:
            InputError: If there is no finished run.
        """
        missing = [
            name
            for name in (runs.MODEL, DECODING)
            if not (directory / name).is_file()
        ]
        if not any((directory / n).exists() for n in (SUBWORDS, BYTE_PAIRS)):
            missing.append(SUBWORDS)
        if missing:
            raise InputError(
                f"--model {directory}: no {missing[0]}. Expected the output of "
                "a finished training."
            )
        try:
            with warnings.catch_warnings():
                # KerasHub gives every task an optimizer, which is not the one
                # that was saved, and does not matter here.
                warnings.filterwarnings("ignore", "Skipping variable loading")
                model = keras.saving.load_model(
                    directory / runs.MODEL, compile=False
                )
        except (OSError, ValueError) as error:
            raise InputError(
                f"--model {directory}: {runs.MODEL} cannot be read ({error})."
            ) from error
        settings = runs.read_json(directory / DECODING)
        longest = settings.pop("longest")
        settings |= {
            name: value for name, value in decoding.items() if value is not None
        }
        tokenizer = load_tokenizer(directory)
        return cls(model, tokenizer, longest, Decoding(**settings), batch_size)

    def _serve(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        tokenizer = self.tokenizer
        found = summarize(
            self.model,
            source_ids(tokenizer, texts, self.longest),
            tokenizer.bos,
            tokenizer.special,
            self.decoding,
        )
        return {
            "summary": summary_texts(tokenizer, found.ids[:, 0]),
            "score": found.scores[:, 0],
        }


def _check(
    model: RDropBartSeq2SeqLM,
    tokenizer: Tokenizer,
    longest: int,
    decoding: Decoding,
) -> None:
    positions = model.backbone.max_sequence_length
    # The decoder sees its start and all ids but the end.
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
