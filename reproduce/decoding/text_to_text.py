"""The base class of models with tokenizers, which map texts to texts."""

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

    Subclasses define `_save_tokenizers` and `_serve`, a graph function that
    returns the generated texts as `output` and their `score` for a vector of
    strings.

    Args:
        model: The model.
        decoding: The settings of the search, a dataclass.
        resources: The tokenizers, which exports have to track.
        batch_size: The number of texts at a time.
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
        # The signature gives one trace for any number and lengths of texts.
        self.serve = tf.function(
            self._serve, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def generate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best text found for each text."""
        # Texts of similar length share a batch, whose time depends on its
        # longest text.
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
        """Writes the files that `load` reads, and a self-contained SavedModel.

        The SavedModel's endpoint "serve" takes a batch of strings. For each, it
        returns the generated text and its `score`, the length-penalized sum of
        its log-probabilities.
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
        directory: The directory of a run.
        settings: The name of the JSON file of settings.
        **changes: The settings to change. None keeps a setting.

    Returns:
        The model and the settings.

    Raises:
        InputError: If the directory has no finished run.
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
