"""The language models, their perplexity and what they generate."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from rdrop_keras import RDrop
from rdrop_keras import recipes
from reproduce.data.blocks import blocks_of
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import EOS
from reproduce.data.special_ids import PAD
from reproduce.data.vocabulary import Stream
from reproduce.decoding.generator import generate
from reproduce.decoding.generator import sample
from reproduce.models.adaptive import AdaptiveInput
from reproduce.models.adaptive import TiedAdaptiveSoftmax
from reproduce.models.language_model import LanguageModel
from reproduce.models.sizes import LANGUAGE_SIZES
from reproduce.scores import perplexity
from reproduce.scores.perplexity import Measure

ops = keras.ops

WORDS = 30
KINDS = ("tiny", "tiny_adaptive")


def small(kind, **changes):
    if kind == "tiny_adaptive":
        changes = {"cutoffs": (8, 20), **changes}
    return dataclasses.asdict(
        dataclasses.replace(
            LANGUAGE_SIZES[kind],
            **{"width": 16, "feed_forward": 24, "num_heads": 2, **changes},
        )
    )


def spread(model):
    """Gives a model weights by which positions and words differ."""
    rng = np.random.default_rng(5)
    for variable in model.trainable_variables:
        noise = rng.normal(size=variable.shape) * 0.3
        variable.assign(np.array(variable) + noise)
    return model


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    keras.utils.set_random_seed(2)
    return spread(LanguageModel(WORDS, **small(request.param)))


@pytest.fixture
def ids(rng):
    return rng.integers(2, WORDS, (3, 7)).astype("int32")


def test_log_probabilities_sum_to_one(model, ids):
    hidden = model.hidden_states(ids, training=False)
    logs = np.array(model.log_probabilities(hidden), "float64")
    assert logs.shape == (3, 7, WORDS)
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1.0, rtol=1e-5)
    logits = model(ids, training=False)
    np.testing.assert_allclose(tf.nn.log_softmax(logits), logs, atol=1e-5)
    # Words differ, or all of this would be of one value.
    assert logs.std(-1).min() > 0.1


def test_no_token_sees_the_future(model, ids, monkeypatch):
    """The gradient by what is embedded at later places is 0."""
    embedded = tf.constant(model.embed(model.embedding, ids))
    monkeypatch.setattr(model, "embed", lambda *_: embedded)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(embedded)
        hidden = model.hidden_states(ids, training=False)
        sums = [
            tf.reduce_sum(model.log_probabilities(hidden[:, t])[:, ::3])
            for t in range(7)
        ]
    for t, value in enumerate(sums):
        slopes = np.abs(tape.gradient(value, embedded)).sum((0, 2))
        assert (slopes[: t + 1] > 0).all()
        assert (slopes[t + 1 :] == 0).all()


def test_padding_does_not_count(model, rng):
    stream = rng.integers(2, WORDS, 10).astype("int32")
    blocks = blocks_of(stream, 7)
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=None,
    )
    loss = model.evaluate(*blocks, verbose=0)
    logs = np.array(model(blocks.inputs, training=False), "float64")
    logs = logs - np.log(np.exp(logs).sum(-1, keepdims=True))
    nats = -np.take_along_axis(logs, blocks.labels[..., None], -1)[..., 0]
    counted = blocks.labels != PAD
    assert np.count_nonzero(counted) == 10
    np.testing.assert_allclose(loss, nats[counted].mean(), rtol=1e-5)


@pytest.mark.parametrize("context", [0, 5])
def test_perplexity_is_an_explicit_sum(model, context, rng, monkeypatch):
    stream = rng.integers(2, WORDS, 19).astype("int32")
    # Several chunks of items, the last one not full.
    monkeypatch.setattr(perplexity, "HELD", 4 * WORDS)
    size = 8
    found = Measure(model, size, context, 2)(Stream(stream, words=9))
    before = np.concatenate([[EOS], stream[:-1]])
    total = 0.0
    for start in range(0, 19, size - context):
        for place in range(start, min(start + size - context, 19)):
            window = before[max(start - context, 0) : place + 1]
            logits = np.array(model(window[None], training=False), "float64")
            logits = logits[0, -1] - logits[0, -1].max()
            total -= logits[stream[place]] - np.log(np.exp(logits).sum())
    assert (found.tokens, found.words) == (19, 9)
    np.testing.assert_allclose(found.nats, total, rtol=1e-5)
    np.testing.assert_allclose(found.loss, total / 19, rtol=1e-5)
    np.testing.assert_allclose(
        found.token_perplexity, np.exp(total / 19), rtol=1e-5
    )
    np.testing.assert_allclose(
        found.word_perplexity, np.exp(total / 9), rtol=1e-5
    )


def test_context_helps_to_predict(model, rng):
    """It is not the same number by accident."""
    stream = Stream(rng.integers(2, WORDS, 19).astype("int32"), words=9)
    without = Measure(model, 8, 0)(stream)
    assert abs(without.nats - Measure(model, 8, 5)(stream).nats) > 1e-2


class Uncached:
    """A model whose cache is the ids so far, on which each step runs it all."""

    def __init__(self, model):
        self.model = model
        self.log_probabilities = model.log_probabilities

    def fill_cache(self, ids, time):
        return ops.pad(ids, ((0, 0), (0, time - ids.shape[1])))

    def step(self, now, index, ids):
        here = ops.arange(ids.shape[1]) == index
        ids = ops.where(here, now[:, None], ids)
        hidden = self.model.hidden_states(ids, training=False)
        return ops.take(hidden, index, axis=1), ids


@pytest.mark.parametrize("temperature, top_k", [(0.0, 0), (1.0, 0), (0.7, 5)])
def test_cached_generation_equals_uncached(model, temperature, top_k, rng):
    ids = rng.integers(2, WORDS, (3, 5)).astype("int32")
    lengths = np.array([5, 1, 3])
    ids[np.arange(5) >= lengths[:, None]] = PAD
    uniform = rng.random((3, 6))
    results = [
        generate(each, ids, lengths, uniform, temperature, top_k)
        for each in (model, Uncached(model))
    ]
    np.testing.assert_array_equal(results[0].ids, results[1].ids)
    np.testing.assert_allclose(*(r.log_probabilities for r in results), 1e-4)
    found = np.array(results[0].ids)
    assert found.shape == (3, 6)
    assert not np.isin(found, (PAD, BOS)).any()
    # The scores are those of the text that came out, read at once.
    for row, length in enumerate(lengths):
        text = np.concatenate([ids[row, :length], found[row]])
        logits = np.array(model(text[None, :-1], training=False)[0])
        logs = np.array(tf.nn.log_softmax(logits))[length - 1 :]
        np.testing.assert_allclose(
            logs[np.arange(6), found[row]],
            results[0].log_probabilities[row],
            atol=1e-4,
        )
        if temperature == 0:
            logs[:, [PAD, BOS]] = -np.inf
            np.testing.assert_array_equal(found[row], logs.argmax(-1))


def test_random_numbers_settle_what_is_generated(model, ids):
    lengths = np.full(3, 7)
    first, again, other = (
        np.array(generate(model, ids, lengths, uniform, 1.5).ids)
        for uniform in (
            np.random.default_rng(seed).random((3, 5)) for seed in (1, 1, 2)
        )
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_draws_follow_the_distribution():
    probabilities = np.array([0.3, 0.1, 0.3, 0.15, 0.1, 0.05])
    rows = 20_000
    logs = tf.constant(np.tile(np.log(probabilities), (rows, 1)), "float32")

    def shares(**options):
        settings = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, **options}
        uniform = np.random.default_rng(3).random(rows).astype("float32")
        drawn = np.array(sample(logs, uniform, **settings))
        return np.bincount(drawn, minlength=6) / rows

    # Neither `PAD` nor `BOS` is ever drawn.
    kept = np.where(np.arange(6) < 2, 0, probabilities)
    np.testing.assert_allclose(shares(), kept / kept.sum(), atol=0.015)
    warm = kept**0.5 / (kept**0.5).sum()
    np.testing.assert_allclose(shares(temperature=2.0), warm, atol=0.015)
    two = np.array([0, 0, 0.3, 0.15, 0, 0]) / 0.45
    np.testing.assert_allclose(shares(top_k=2), two, atol=0.015)
    # 0.5 is short of 0.6, so that the next one comes in.
    np.testing.assert_allclose(shares(top_p=0.6), two, atol=0.015)
    for options in ({"temperature": 0.0}, {"top_k": 1}, {"top_p": 0.0}):
        assert shares(**options)[2] == 1.0


def test_adaptive_input_is_a_table_and_a_projection_each():
    layer = AdaptiveInput(12, 8, (4, 9), 2.0)
    layer.build()
    assert [tuple(t.shape) for t in layer.tables] == [(4, 8), (5, 4), (3, 2)]
    found = np.array(layer(np.arange(12).reshape(3, 4)))
    rows = [
        np.array(table) @ np.array(projection)
        for table, projection in zip(layer.tables, layer.projections)
    ]
    np.testing.assert_allclose(
        found, np.concatenate(rows).reshape(3, 4, 8), rtol=1e-5, atol=1e-6
    )


def test_tied_adaptive_softmax_equals_pytorch(rng):
    torch = pytest.importorskip("torch")
    layer = AdaptiveInput(12, 8, (4, 9), 2.0)
    layer.build()
    head = TiedAdaptiveSoftmax(layer)
    hidden = rng.normal(size=(5, 8)).astype("float32")
    found = np.array(head(hidden))
    assert len(head.trainable_variables) == 1 + 6
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 12, [4, 9], 2.0)
    own = np.array(head.clusters).T
    with torch.no_grad():
        theirs.head.weight[:] = torch.tensor(
            np.concatenate([np.array(layer.tables[0]), own])
        )
        for tail, table, projection in zip(
            theirs.tail, layer.tables[1:], layer.projections[1:]
        ):
            tail[0].weight[:] = torch.tensor(np.array(projection))
            tail[1].weight[:] = torch.tensor(np.array(table))
        expected = theirs.log_prob(torch.tensor(hidden)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_chunks_change_nothing(rng):
    blocks = blocks_of(rng.integers(2, WORDS, 19).astype("int32"), 8)
    results = []
    for chunk in (None, 6):
        keras.utils.set_random_seed(3)
        # Dropout of the head is drawn later with chunks, so with other masks.
        sizes = small("tiny_adaptive", num_layers=1, softmax_dropout=0.0)
        model = spread(LanguageModel(WORDS, **sizes))
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            rdrop=RDrop(2.0, vocabulary_chunk=chunk),
        )
        for _ in range(2):
            logs = model.train_on_batch(*blocks, return_dict=True)
        results.append((logs, [np.array(w) for w in model.weights]))
    (logs, weights), (chunked_logs, chunked_weights) = results
    assert logs["consistency_loss"] > 1e-4
    for name in ("loss", "task_loss", "consistency_loss"):
        np.testing.assert_allclose(chunked_logs[name], logs[name], rtol=1e-4)
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_gives_single_precision_logits(kind, ids):
    model = LanguageModel(WORDS, dtype="mixed_bfloat16", **small(kind))
    assert model(ids).dtype == "float32"
    assert model.hidden_states(ids).dtype == "bfloat16"
    hidden = model.hidden_states(ids)
    assert model.log_probabilities(hidden).dtype == "float32"
    found = generate(model, ids, np.full(3, 7), np.zeros((3, 2)), 0.0)
    assert found.log_probabilities.dtype == "float32"


def test_round_trip_through_a_file(model, ids, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.configuration == model.configuration
    np.testing.assert_array_equal(loaded(ids), model(ids))


@pytest.mark.parametrize(
    "kind, name",
    [("gpt", "wikitext103_transformer"), ("wiki103", "wikitext103_adaptive")],
)
def test_published_sizes(kind, name):
    sizes, theirs = LANGUAGE_SIZES[kind], recipes.get(name).model
    assert (
        sizes.num_layers,
        sizes.width,
        sizes.feed_forward,
        sizes.num_heads,
    ) == (
        theirs.decoder_layers,
        theirs.hidden_size,
        theirs.feed_forward_size,
        theirs.attention_heads,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_by_hand(kind):
    """Tied weights are there once; the last norm is GPT's alone."""
    model = LanguageModel(WORDS, **small(kind, num_layers=3))
    norm, attention = 2 * 16, 4 * (16 * 16 + 16)
    layer = 2 * norm + attention + 2 * 16 * 24 + 24 + 16
    expected = 3 * layer + WORDS * 16 + norm
    if kind == "tiny_adaptive":
        tables = 8 * 16 + 12 * 8 + 10 * 4
        projections = (16 + 8 + 4) * 16
        expected = 3 * layer + tables + projections + 2 * 16
    found = sum(np.prod(v.shape) for v in model.trainable_variables)
    assert found == expected
