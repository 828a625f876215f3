"""From a prompt to a text, and from a text to what it costs."""

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
    """How texts are gone on with; see `generation.generate`.

    Attributes:
        context: How many tokens of a prompt the model looks at, at most: its
            block size.
    """

    new_tokens: int = 40
    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.95
    seed: int = 0
    context: int = 512


class Generator(tf.Module):
    """A model with its vocabulary: texts in, texts out.

    Args:
        model: The model.
        vocabulary: Its vocabulary.
        sampling: How to go on with a text.
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
        """Returns what each text is followed by."""
        found = self.generate(tf.constant(list(texts)), **self._options())
        return [text.decode() for text in found["text"].numpy()]

    def save(self, directory: Path) -> None:
        """Writes what `load` reads, and a SavedModel, which needs none of it.

        The SavedModel's endpoints take a batch of strings. "serve" goes on
        with each as the run was told to, "generate" as its other arguments
        say: both return the `text` that follows, and its `log_probability`,
        in nats. "score" returns the `tokens` of each text, their
        `log_probabilities`, padded with 0, and `lengths`, how many there are.
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
        """Reads what `save` wrote.

        Args:
            directory: Where a run was written.
            **sampling: What to do otherwise than the run was told, by the
                names in `Sampling`; None changes nothing.

        Raises:
            InputError: If there is no finished run.
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
