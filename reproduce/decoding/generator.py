"""Text generation from prompts, by sampling.

`generate` also runs inside a `tf.function` and in a SavedModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import NamedTuple

import keras

from reproduce.common import runs
from reproduce.common.export import writes_saved_model
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import PAD
from reproduce.data.vocabulary import Vocabulary
from reproduce.data.vocabulary import load_vocabulary
from reproduce.data.vocabulary import prompt_ids
from reproduce.data.vocabulary import save_vocabulary
from reproduce.data.vocabulary import text_of
from reproduce.decoding.compiled import compiled
from reproduce.decoding.text_to_text import load_model
from reproduce.models.language_model import LanguageModel

ops = keras.ops

SAMPLING = "sampling.json"
NEVER = float("-inf")


@dataclass(frozen=True)
class Sampling:
    """Settings of `generate`; the model reads `context` tokens."""

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
        found = self._generate(ids, lengths, ops.convert_to_numpy(uniform))
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


class Generated(NamedTuple):
    """The text that was generated for each prompt.

    Attributes:
        ids: The new ids, without the prompt, `(batch, new_tokens)`.
        log_probabilities: The log-probability of each new id, in nats, by the
            model at temperature 1.
    """

    ids: Any
    log_probabilities: Any


def generate(
    model: LanguageModel,
    ids: Any,
    lengths: Any,
    uniform: Any,
    temperature: Any = 1.0,
    top_k: Any = 0,
    top_p: Any = 1.0,
) -> Generated:
    """Samples the continuation of each prompt, token by token.

    Args:
        ids: The prompts, each of at least one token, padded with `PAD` on the
            right, `(batch, time)`.
        lengths: The number of tokens in each prompt, `(batch,)`.
        uniform: A random number from 0 to 1 for each token to generate,
            `(batch, new_tokens)`, which determines the draw.
        temperature: The divisor of logits. 0 selects the most probable token,
            which is greedy search.
        top_k: The number of most probable tokens to sample from. 0 samples
            from all tokens.
        top_p: The total probability of the most probable tokens to sample
            from. At least one token is kept.
    """
    ids, lengths = ops.cast(ids, "int32"), ops.cast(lengths, "int32")
    uniform = ops.convert_to_tensor(uniform, "float32")
    new_tokens = ops.shape(uniform)[1]
    new_ids = ops.full(ops.shape(uniform), PAD, "int32")
    all_ids = ops.concatenate([ids, new_ids], axis=1)
    time = ops.shape(all_ids)[1]
    # The log-probability of the token after each position.
    scores = ops.zeros(ops.shape(all_ids), "float32")
    places = ops.arange(time)
    cache = model.fill_cache(ids, time)

    def advance(index, all_ids, scores, cache):
        now = ops.take(all_ids, index, axis=1)
        hidden, cache = model.step(now, index, cache)
        logs = model.log_probabilities(hidden)
        following = index + 1
        number = ops.clip(following - lengths, 0, new_tokens - 1)
        drawn = ops.take_along_axis(uniform, number[:, None], axis=1)[:, 0]
        chosen = sample(logs, drawn, temperature, top_k, top_p)
        # Within a longer prompt, the next token is already known.
        known = ops.take(all_ids, ops.minimum(following, time - 1), axis=1)
        token = ops.where(following < lengths, known, chosen)
        here = (places == following)[None, :]
        all_ids = ops.where(here, token[:, None], all_ids)
        score = ops.take_along_axis(logs, token[:, None], axis=1)
        scores = ops.where(here, score, scores)
        return following, all_ids, scores, cache

    last = ops.max(lengths) + new_tokens - 1
    _, all_ids, scores, _ = ops.while_loop(
        lambda index, *_: index < last,
        advance,
        (ops.min(lengths) - 1, all_ids, scores, cache),
    )
    wanted = lengths[:, None] + ops.arange(new_tokens)[None, :]
    return Generated(
        ops.take_along_axis(all_ids, wanted, axis=1),
        ops.take_along_axis(scores, wanted, axis=1),
    )


def sample(
    logs: Any, uniform: Any, temperature: Any, top_k: Any, top_p: Any
) -> Any:
    """Draws a token for each row; see `generate`."""
    size = logs.shape[-1]
    vocabulary = ops.arange(size)
    # Padding and start are never labels, so their logits are untrained.
    logs = ops.where((vocabulary == PAD) | (vocabulary == BOS), NEVER, logs)
    temperature = ops.cast(temperature, "float32")
    divided = ops.softmax(logs / ops.maximum(temperature, 1e-6))
    ordered, order = ops.top_k(divided, size)
    before = ops.cumsum(ordered, axis=-1) - ordered
    kept = (vocabulary < ops.where(top_k > 0, top_k, size)) & (before < top_p)
    kept = (kept & (temperature > 0)) | (vocabulary == 0)
    total = ops.cumsum(ops.where(kept, ordered, 0.0), axis=-1)
    # The inverse of the distribution function, at a uniform number.
    drawn = ops.sum(
        ops.cast(total <= uniform[:, None] * total[:, -1:], "int32"), axis=-1
    )
    # Rounding could reach past the last token that is kept.
    drawn = ops.minimum(drawn, ops.sum(ops.cast(kept, "int32"), axis=-1) - 1)
    chosen = ops.take_along_axis(order, drawn[:, None], axis=-1)[:, 0]
    return ops.cast(chosen, "int32")
