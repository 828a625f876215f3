"""From sentences to sentences: subwords, beam search and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.export import export_functions
from reproduce.data.subwords import Subwords
from reproduce.data.subwords import source_ids
from reproduce.decoding.translate import translate
from reproduce.models.translation import Transformer

# Decoding takes no gradients, and so has room for more sentences at a time.
SENTENCES = 64
SUBWORDS = "subwords.model"
SOURCE_SUBWORDS = "source_subwords.model"
DECODING = "decoding.json"


@dataclass(frozen=True)
class Decoding:
    """How translations are searched for; see `decoding.translate`."""

    beam_size: int = 5
    length_penalty: float = 1.0
    max_length_factor: float = 1.2
    max_length_offset: int = 10
    min_length: int = 1


class Translator(tf.Module):
    """A model with its subwords: texts in, translations out.

    Args:
        model: The model.
        source: The subwords of the sources.
        target: The subwords of the targets, the same object if joint.
        decoding: How to search.
    """

    def __init__(
        self,
        model: Transformer,
        source: Subwords,
        target: Subwords,
        decoding: Decoding,
    ):
        super().__init__()
        self.model = model
        self.source = source
        self.target = target
        self.decoding = decoding
        # One trace, whatever the number and the lengths of the texts.
        self.serve = tf.function(
            self._serve, input_signature=[tf.TensorSpec([None], tf.string)]
        )

    def translate(self, texts: Sequence[str]) -> list[str]:
        """Returns the best translation of each text."""
        # Texts of like length together: a batch takes as long as its longest.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        translations = [""] * len(texts)
        for start in range(0, len(texts), SENTENCES):
            chosen = order[start : start + SENTENCES]
            batch = tf.constant([texts[index] for index in chosen])
            found = self.serve(batch)["translation"].numpy()
            for index, translation in zip(chosen, found):
                translations[index] = translation.decode()
        return translations

    def save(self, directory: Path) -> None:
        """Writes what `load` reads, and a SavedModel, which needs none of it.

        The SavedModel's endpoint "serve" takes a batch of strings and returns
        for each its `translation` and `score`, the mean log-probability by
        which it was chosen (with a length penalty of 1).
        """
        self.model.save(directory / runs.MODEL)
        self.target.save(directory / SUBWORDS)
        if self.source is not self.target:
            self.source.save(directory / SOURCE_SUBWORDS)
        runs.write_json(directory / DECODING, asdict(self.decoding))
        signature = [tf.TensorSpec([None], tf.string, "texts")]
        export_functions(
            directory / runs.SAVED_MODEL,
            {"serve": (self._serve, signature)},
            [self.model, self.source, self.target],
        )

    @classmethod
    def load(cls, directory: Path, **decoding: Any) -> Translator:
        """Reads what `save` wrote.

        Args:
            directory: Where a run was written.
            **decoding: What to search with instead of what the run did, by the
                names in `Decoding`.

        Raises:
            InputError: If there is no finished run.
        """
        for name in (runs.MODEL, SUBWORDS, DECODING):
            if not (directory / name).is_file():
                raise InputError(
                    f"--model {directory}: no {name}. Expected the output of a "
                    "finished training."
                )
        target = Subwords.load(directory / SUBWORDS)
        source = target
        if (directory / SOURCE_SUBWORDS).exists():
            source = Subwords.load(directory / SOURCE_SUBWORDS)
        try:
            model = keras.saving.load_model(
                directory / runs.MODEL, compile=False
            )
        except (OSError, ValueError) as error:
            raise InputError(
                f"--model {directory}: {runs.MODEL} cannot be read ({error})."
            ) from error
        settings = runs.read_json(directory / DECODING) | {
            name: value for name, value in decoding.items() if value is not None
        }
        return cls(model, source, target, Decoding(**settings))

    def _serve(self, texts: tf.Tensor) -> dict[str, tf.Tensor]:
        found = translate(
            self.model,
            source_ids(texts, self.source),
            **asdict(self.decoding),
        )
        return {
            "translation": self.target.detokenize(found.ids[:, 0]),
            "score": found.scores[:, 0],
        }
