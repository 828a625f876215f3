"""The base class of models with tokenizers, which map texts to texts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from typing import ClassVar

import keras
import numpy as np

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.export import writes_saved_model
from reproduce.decoding.beam_search import Hypotheses
from reproduce.decoding.compiled import compiled

DECODING = "decoding.json"


class TextToText:
    """Generates a text from each text.

    Subclasses define `save_tokenizers` and `search`.

    Args:
        source: The tokenizer of the texts.
        target: The tokenizer of the generated texts.
        decoding: The settings of the search, a dataclass.
        batch_size: The number of texts at a time.

    Attributes:
        output: The name of the generated texts in the SavedModel.
        begin: The ids before those of a text.
        longest: The maximum number of ids of a text with its first and last
            ids. The rest is ignored.
        multiple: Lengths are rounded up to multiples of this, so that few
            shapes are compiled.
    """

    output: ClassVar[str]
    begin: tuple[int, ...] = ()
    longest: int | None = None
    multiple: int = 8

    def __init__(
        self,
        model: Any,
        source: Any,
        target: Any,
        decoding: Any,
        batch_size: int,
    ):
        self.model = model
        self.source = source
        self.target = target
        self.decoding = decoding
        self.batch_size = batch_size
        self._search = compiled(model, self._best)

    def search(self, source_ids: Any) -> Hypotheses:
        """Returns the texts found for padded ids, best first."""
        raise NotImplementedError

    def save_tokenizers(self, directory: Path) -> None:
        """Writes the tokenizers."""
        raise NotImplementedError

    def generate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best text found for each text."""
        return self.generate_with_scores(texts)[0]

    def generate_with_scores(
        self, texts: Sequence[str]
    ) -> tuple[list[str], np.ndarray]:
        """Returns the best text found for each text, and its score.

        The score is the length-penalized sum of its log-probabilities.
        """
        rows = self._encoded(texts)
        # Texts of similar length share a batch, whose time depends on its
        # longest text.
        order = np.argsort([len(row) for row in rows], kind="stable")
        generated = [""] * len(rows)
        scores = np.zeros(len(rows), "float32")
        for start in range(0, len(rows), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = self._padded([rows[index] for index in chosen], len(rows))
            found = self._search(batch)
            ids = found["ids"][: len(chosen)]
            scores[chosen] = found["scores"][: len(chosen)]
            for index, text in zip(chosen, self._texts_of(ids)):
                generated[index] = text
        return generated, scores

    def save(self, directory: Path) -> None:
        """Writes the files that `load` reads, and a self-contained SavedModel.

        The SavedModel's endpoint "serve" takes a batch of strings. For each, it
        returns the generated text and its `score`, the length-penalized sum of
        its log-probabilities.
        """
        self.model.save(directory / runs.MODEL)
        self.save_tokenizers(directory)
        runs.write_json(directory / DECODING, self.settings())
        if writes_saved_model():
            from reproduce.export.texts import export_text_to_text

            export_text_to_text(self, directory / runs.SAVED_MODEL)

    def settings(self) -> dict[str, Any]:
        """Returns the settings that `load` reads."""
        return asdict(self.decoding)

    def _best(self, source_ids: Any) -> dict[str, Any]:
        found = self.search(source_ids)
        return {"ids": found.ids[:, 0], "scores": found.scores[:, 0]}

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        most = None if self.longest is None else self.longest - 2
        end = self.source.special.end
        return [
            [*self.begin, *row[:most], end] for row in self.source.encode(texts)
        ]

    def _padded(self, rows: list[list[int]], total: int) -> np.ndarray:
        if total > self.batch_size:
            # One shape for all batches, the last one too.
            rows = [*rows, *[rows[-1]] * (self.batch_size - len(rows))]
        length = -(-max(map(len, rows)) // self.multiple) * self.multiple
        if self.longest is not None:
            length = min(length, self.longest)
        batch = np.full((len(rows), length), self.source.special.pad, "int32")
        for place, row in enumerate(rows):
            batch[place, : len(row)] = row
        return batch

    def _texts_of(self, ids: np.ndarray) -> list[str]:
        pad, _, end = self.target.special
        ended = np.cumsum(ids == end, axis=1) > 0
        wanted = ~ended & (ids != pad) & (ids != self.target.bos)
        return self.target.decode(row[keep] for row, keep in zip(ids, wanted))


def load_model(directory: Path, settings: str, **changes: Any) -> Any:
    """Returns the model of a finished run and the settings in a JSON file.

    Args:
        directory: The directory of a run.
        settings: The name of the file.
        **changes: Settings that replace those of the file, unless None.
    """
    for name in (runs.MODEL, settings):
        if not (directory / name).is_file():
            raise InputError(
                f"--model {directory}: no {name}. Expected the output of a "
                "finished training."
            )
    name = runs.MODEL
    try:
        with warnings.catch_warnings():
            # KerasHub compiles every task with a default optimizer, whose
            # variables differ from the saved ones and are not needed.
            warnings.filterwarnings("ignore", "Skipping variable loading")
            model = keras.saving.load_model(directory / name, compile=False)
        name = settings
        found = dict(runs.read_json(directory / name))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"--model {directory}: {name} cannot be read ({error})."
        ) from error
    return model, found | {
        name: value for name, value in changes.items() if value is not None
    }
