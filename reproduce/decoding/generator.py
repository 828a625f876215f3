"""Text generation from prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from reproduce.common import runs
from reproduce.common.export import writes_saved_model
from reproduce.data.vocabulary import Vocabulary
from reproduce.data.vocabulary import load_vocabulary
from reproduce.data.vocabulary import prompt_ids
from reproduce.data.vocabulary import save_vocabulary
from reproduce.data.vocabulary import text_of
from reproduce.decoding.compiled import compiled
from reproduce.decoding.sampling import generate
from reproduce.decoding.text_to_text import load_model
from reproduce.models.language_model import LanguageModel

SAMPLING = "sampling.json"


@dataclass(frozen=True)
class Sampling:
    """Settings of `sampling.generate`; the model reads `context` tokens."""

    new_tokens: int = 40
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    seed: int = 0
    context: int = 512


class Generator:
    """A model with its vocabulary, which maps texts to texts."""

    def __init__(
        self, model: LanguageModel, vocabulary: Vocabulary, sampling: Sampling
    ):
        self.model = model
        self.vocabulary = vocabulary
        self.sampling = sampling
        self._generate = compiled(model, self._compute)

    def go_on(self, texts: Sequence[str]) -> list[str]:
        """Returns the continuation of each text."""
        sampling = self.sampling
        ids, lengths = prompt_ids(texts, self.vocabulary, sampling.context)
        uniform = keras.random.uniform(
            (len(texts), sampling.new_tokens), seed=sampling.seed
        )
        found = self._generate(
            ids, lengths, keras.ops.convert_to_numpy(uniform)
        )
        return [text_of(row, self.vocabulary) for row in found["ids"]]

    def save(self, directory: Path) -> None:
        """Writes the files that `load` reads, and a self-contained SavedModel.

        The SavedModel's endpoints take a batch of strings. "serve" continues
        each string with the settings of the run, "generate" with settings
        passed as arguments. Both return the continuation as `text` and its
        `log_probability`, in nats. "score" returns the `tokens` of each text,
        their `log_probabilities`, padded with 0, and their number as `lengths`.
        """
        self.model.save(directory / runs.MODEL)
        save_vocabulary(self.vocabulary, directory)
        runs.write_json(directory / SAMPLING, asdict(self.sampling))
        if writes_saved_model():
            from reproduce.export.texts import export_generator

            export_generator(self, directory / runs.SAVED_MODEL)

    @classmethod
    def load(cls, directory: Path, **sampling: Any) -> Generator:
        """Reads the files that `save` wrote; `sampling` as in `load_model`."""
        model, settings = load_model(directory, SAMPLING, **sampling)
        return cls(model, load_vocabulary(directory), Sampling(**settings))

    def _compute(self, ids, lengths, uniform):
        sampling = self.sampling
        return generate(
            self.model,
            ids,
            lengths,
            uniform,
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
        )._asdict()
