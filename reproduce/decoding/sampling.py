"""Sampling of the continuation of a text.

All functions also run inside a `tf.function` and in a SavedModel.
"""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

import keras

from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import PAD
from reproduce.models.language_model import LanguageModel

ops = keras.ops

NEVER = float("-inf")


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
