"""A model with its tokenizers: texts in, texts out."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from typing import ClassVar

import keras
import tensorflow as tf

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.export import export_functions

DECODING = "decoding.json"
TEXTS = tf.TensorSpec([None], tf.string, "texts")


class TextToText(tf.Module):
    """Generates a text from each text.

    Subclasses have `_serve`, graph code that returns for a vector of strings
    the generated texts as `output` and their `score`, and `_save_tokenizers`.

    Args:
        model: The model.
        decoding: How to search, a dataclass.
        resources: What tokenizes, for exports to track.
        batch_size: How many texts at a time.
    """

    output: ClassVar[str]

    def __init__(
        self, model: Any, decoding: Any, resources: list[Any], batch_size: int
    ):
        super().__init__()
        self.model = model
        self.decoding = decoding
        self.batch_size = batch_size
        self._resources = resources
        # One trace, whatever the number and the lengths of the texts.
        self.serve = tf.function(
            self._serve, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def generate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best text found for each text."""
        # Texts of like length together: a batch takes as long as its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        generated = [""] * len(texts)
        for start in range(0, len(texts), self.batch_size):
            chosen = order[start : start + self.batch_size]
            batch = tf.constant([texts[index] for index in chosen])
            found = self.serve(batch)[self.output].numpy()
            for index, text in zip(chosen, found):
                generated[index] = text.decode()
        return generated

    def save(self, directory: Path) -> None:
        """Writes what `load` reads, and a SavedModel, which needs none of it.

        The SavedModel's endpoint "serve" takes a batch of strings and returns
        for each the generated text and its `score`, the sum of its
        log-probabilities over the power of the length by which it was chosen.
        """
        self.model.save(directory / runs.MODEL)
        self._save_tokenizers(directory)
        runs.write_json(directory / DECODING, self._settings())
        export_functions(
            directory / runs.SAVED_MODEL,
            {"serve": (self._serve, [TEXTS])},
            [self.model, *self._resources],
        )

    def _settings(self) -> dict[str, Any]:
        return asdict(self.decoding)

    def _save_tokenizers(self, directory: Path) -> None:
        raise NotImplementedError

    def _serve(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        raise NotImplementedError


def load_model(directory: Path, settings: str, **changes: Any) -> Any:
    """Reads the model of a finished run and a file of settings.

    Args:
        directory: Where a run was written.
        settings: The name of the file, of JSON.
        **changes: What to change in the settings; None changes nothing.

    Returns:
        The model and the settings.

    Raises:
        InputError: If there is no finished run.
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
            # KerasHub gives every task an optimizer, which is not the one that
            # was saved, and does not matter here.
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
