"""Text generation from prompts, and the log-probabilities of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

from reproduce.common import runs
from reproduce.common.export import export_functions
from reproduce.data.vocabulary import Vocabulary
from reproduce.data.vocabulary import load_vocabulary
from reproduce.data.vocabulary import prompt_ids
from reproduce.data.vocabulary import save_vocabulary
from reproduce.data.vocabulary import text_of
from reproduce.decoding.sampling import generate
from reproduce.decoding.text_to_text import load_model
from reproduce.models.language_model import LanguageModel
from reproduce.scores.perplexity import token_log_probabilities

SAMPLING = "sampling.json"


@dataclass(frozen=True)
class Sampling:
    """Settings of sampling; see `sampling.generate`.

    Attributes:
        context: The maximum number of prompt tokens that the model reads, which
            is its block size.
    """

    new_tokens: int = 40
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    seed: int = 0
    context: int = 512


class Generator(tf.Module):
    """A model with its vocabulary, which maps texts to texts.

    Args:
        model: The model.
        vocabulary: The vocabulary of the model.
        sampling: The settings of sampling.
    """

    def __init__(
        self, model: LanguageModel, vocabulary: Vocabulary, sampling: Sampling
    ):
        super().__init__()
        self.model = model
        self.vocabulary = vocabulary
        self.sampling = sampling
        self.generate = tf.function(
            self._generate, input_signature=list(_GENERATE.values())
        )
        self.score = tf.function(
            self._score, input_signature=list(_TEXTS.values())
        )

    def go_on(self, texts: Sequence[str]) -> list[str]:
        """Returns the continuation of each text."""
        found = self.generate(tf.constant(list(texts)), **self._options())
        return [text.decode() for text in found["text"].numpy()]

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

        def serve(texts):
            return self._generate(texts, **self._options())

        export_functions(
            directory / runs.SAVED_MODEL,
            {
                "serve": (serve, list(_TEXTS.values())),
                "generate": (self._generate, list(_GENERATE.values())),
                "score": (self._score, list(_TEXTS.values())),
            },
            [self.model, self.vocabulary],
        )

    @classmethod
    def load(cls, directory: Path, **sampling: Any) -> Generator:
        """Reads the files that `save` wrote.

        Args:
            directory: The directory of a run.
            **sampling: Fields of `Sampling` that replace the settings of the
                run. None keeps a setting.

        Raises:
            InputError: If the directory has no finished run.
        """
        model, settings = load_model(directory, SAMPLING, **sampling)
        return cls(model, load_vocabulary(directory), Sampling(**settings))

    def _options(self):
        options = asdict(self.sampling)
        del options["context"]
        return options

    def _generate(self, texts, new_tokens, temperature, top_k, top_p, seed):
        ids, lengths = prompt_ids(texts, self.vocabulary, self.sampling.context)
        found = generate(
            self.model,
            ids,
            lengths,
            new_tokens,
            temperature,
            top_k,
            top_p,
            seed,
        )
        counts = tf.fill([tf.shape(ids)[0]], new_tokens)
        return {
            "text": text_of(found.ids, counts, self.vocabulary),
            "log_probability": tf.reduce_sum(found.log_probabilities, axis=-1),
        }

    def _score(self, texts):
        ids, lengths = prompt_ids(texts, self.vocabulary)
        inputs, labels, lengths = ids[:, :-1], ids[:, 1:], lengths - 1
        hidden = self.model.hidden_states(inputs, training=False)
        shape = tf.shape(labels)
        found = token_log_probabilities(
            self.model,
            tf.reshape(hidden, [-1, hidden.shape[-1]]),
            tf.reshape(labels, [-1]),
        )
        counted = tf.sequence_mask(lengths, shape[1])
        return {
            "tokens": tf.where(counted, self.vocabulary.pieces(labels), ""),
            "log_probabilities": tf.where(
                counted, tf.reshape(found, shape), 0.0
            ),
            "lengths": lengths,
        }


_TEXTS = {"texts": tf.TensorSpec([None], tf.string, "texts")}
_GENERATE = {
    **_TEXTS,
    "new_tokens": tf.TensorSpec([], tf.int32, "new_tokens"),
    "temperature": tf.TensorSpec([], tf.float32, "temperature"),
    "top_k": tf.TensorSpec([], tf.int32, "top_k"),
    "top_p": tf.TensorSpec([], tf.float32, "top_p"),
    "seed": tf.TensorSpec([], tf.int32, "seed"),
}
