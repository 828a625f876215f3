"""Sampling of the continuation of a text.

All functions also run inside a `tf.function` and in a SavedModel.
"""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import PAD
from reproduce.models.language_model import LanguageModel

NEVER = float("-inf")
# A lower bound of uniform numbers, so that their logarithm is finite.
TINY = 1e-30


class Generated(NamedTuple):
    """The text that was generated for each prompt.

    Attributes:
        ids: The new ids, without the prompt, `(batch, new_tokens)`.
        log_probabilities: The log-probability of each new id, in nats, by the
            model at temperature 1.
    """

    ids: tf.Tensor
    log_probabilities: tf.Tensor


def generate(
    model: LanguageModel,
    ids: tf.Tensor,
    lengths: tf.Tensor,
    new_tokens: int | tf.Tensor,
    temperature: float | tf.Tensor = 1.0,
    top_k: int | tf.Tensor = 0,
    top_p: float | tf.Tensor = 1.0,
    seed: int | tf.Tensor = 0,
    cached: bool = True,
) -> Generated:
    """Samples the continuation of each prompt, token by token.

    Args:
        model: The model.
        ids: The prompts, each of at least one token, padded with `PAD` on the
            right, `(batch, time)`.
        lengths: The number of tokens in each prompt, `(batch,)`.
        new_tokens: The number of tokens to generate.
        temperature: The divisor of logits. 0 selects the most probable token,
            which is greedy search.
        top_k: The number of most probable tokens to sample from. 0 samples
            from all tokens.
        top_p: The total probability of the most probable tokens to sample
            from. At least one token is kept.
        seed: The seed, which fully determines the draws.
        cached: Whether keys and values of earlier positions are cached.
            Without the cache, each step runs the model on all positions,
            which is slower and gives the same result.

    Returns:
        `Generated`.
    """
    ids = tf.cast(ids, tf.int32)
    lengths = tf.cast(lengths, tf.int32)
    batch, prompt = tf.shape(ids)[0], tf.shape(ids)[1]
    time = prompt + new_tokens
    all_ids = tf.pad(ids, [[0, 0], [0, new_tokens]], constant_values=PAD)
    # The log-probability of the token after each position.
    scores = tf.zeros((batch, time), tf.float32)
    places = tf.range(time)
    first = tf.reduce_min(lengths) - 1
    cache = model.fill_cache(ids, time) if cached else ()

    def advance(index, all_ids, scores, cache):
        if cached:
            hidden, cache = model.step(all_ids[:, index], index, cache)
        else:
            hidden = model.hidden_states(all_ids, training=False)[:, index]
        logs = model.log_probabilities(hidden)
        chosen = sample(logs, temperature, top_k, top_p, (seed, index))
        # Within a longer prompt, the next token is already known.
        following = index + 1
        known = following < lengths
        token = tf.where(
            known, all_ids[:, tf.minimum(following, time - 1)], chosen
        )
        here = (places == following)[None, :]
        all_ids = tf.where(here, token[:, None], all_ids)
        score = tf.gather(logs, token, batch_dims=1)
        scores = tf.where(here, score[:, None], scores)
        return following, all_ids, scores, cache

    last = tf.reduce_max(lengths) + new_tokens - 1
    _, all_ids, scores, _ = tf.while_loop(
        lambda index, *_: index < last, advance, (first, all_ids, scores, cache)
    )
    wanted = lengths[:, None] + tf.range(new_tokens)[None, :]
    return Generated(
        tf.gather(all_ids, wanted, batch_dims=1),
        tf.gather(scores, wanted, batch_dims=1),
    )


def sample(
    logs: tf.Tensor,
    temperature: float | tf.Tensor,
    top_k: int | tf.Tensor,
    top_p: float | tf.Tensor,
    seed: tuple[int | tf.Tensor, int | tf.Tensor],
) -> tf.Tensor:
    """Draws a token for each row; see `generate`.

    Args:
        logs: The log-probabilities, `(batch, vocabulary)`.
        temperature: The temperature, as in `generate`.
        top_k: The number of tokens, as in `generate`.
        top_p: The total probability, as in `generate`.
        seed: Two numbers that determine the draw.

    Returns:
        The ids, `(batch,)`.
    """
    vocabulary = tf.range(logs.shape[-1])
    # Padding and start are never labels, so their logits are untrained.
    logs = tf.where((vocabulary == PAD) | (vocabulary == BOS), NEVER, logs)
    temperature = tf.cast(temperature, tf.float32)
    best = tf.argmax(logs, axis=-1, output_type=tf.int32)
    divided = tf.nn.log_softmax(logs / tf.maximum(temperature, 1e-6))
    ordered, order = tf.math.top_k(divided, logs.shape[-1])
    probabilities = tf.exp(ordered)
    before = tf.cumsum(probabilities, axis=-1, exclusive=True)
    top_k = tf.where(top_k > 0, top_k, logs.shape[-1])
    kept = (vocabulary < top_k) & ((before < top_p) | (vocabulary == 0))
    ordered = tf.where(kept, ordered, NEVER)
    uniform = tf.random.stateless_uniform(
        tf.shape(ordered),
        seed=tf.stack([tf.cast(number, tf.int32) for number in seed]),
        minval=TINY,
    )
    # The Gumbel-max trick: the argmax is a sample of the distribution.
    drawn = tf.argmax(ordered - tf.math.log(-tf.math.log(uniform)), axis=-1)
    chosen = tf.gather(order, drawn, batch_dims=1)
    return tf.where(temperature > 0, chosen, best)
