"""`fit` with an adaptive softmax, with and without chunks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.layers import AdaptiveSoftmax
from rdrop_keras.losses import LabelSmoothedCrossentropy

BATCH, TIME, WIDTH, WORDS = 4, 6, 16, 50
CUTOFFS = [10, 25]
PAD = 0


def adaptive(dropout=0.0):
    return AdaptiveSoftmax(
        WORDS,
        CUTOFFS,
        div_value=2.0,
        dropout=dropout,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=3),
    )


def embedding():
    return keras.layers.Embedding(
        WORDS,
        WIDTH,
        mask_zero=True,
        embeddings_initializer=keras.initializers.RandomNormal(
            stddev=0.5, seed=2
        ),
    )


def functional(masks, **kwargs):
    inputs = keras.Input((None,), dtype="int32")
    hidden = ScriptedDropout(masks)(embedding()(inputs))
    return RDropModel(inputs, adaptive(**kwargs)(hidden))


class Subclass(RDropModel):
    def __init__(self, masks, **kwargs):
        super().__init__()
        self.embedding = embedding()
        self.dropout = ScriptedDropout(masks)
        self.head = adaptive(**kwargs)

    def call(self, inputs, training=None):
        hidden = self.embedding(inputs)
        hidden = self.dropout(hidden, training=training)
        return self.vocabulary_logits(self.head, hidden, training=training)


def loss_of(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **kwargs
    )


@pytest.fixture
def tokens(rng):
    x = rng.integers(1, WORDS, (BATCH, TIME))
    x[1, 2:] = PAD
    y = np.where(x == PAD, PAD, rng.integers(1, WORDS, x.shape))
    return x, y, rng.random(x.shape).astype("float32")


@pytest.mark.parametrize(
    "build, settings",
    [(functional, {"num_passes": 3, "stop_gradient": True}), (Subclass, {})],
)
def test_chunks_change_neither_logs_nor_weights(build, settings, tokens, rng):
    masks = random_masks(rng, 2 * settings.get("num_passes", 2), BATCH, WIDTH)
    results = []
    for chunk in (None, 5):
        model = build(masks)
        model.compile(
            keras.optimizers.SGD(0.5, momentum=0.9),
            loss_of(),
            rdrop=RDrop(5.0, vocabulary_chunk=chunk, **settings),
            run_eagerly=chunk is None,
        )
        for _ in range(2):
            logs = model.train_on_batch(*tokens, return_dict=True)
        results.append((logs, [np.array(w) for w in model.weights]))
    (logs, weights), (chunked_logs, chunked_weights) = results
    for name in ("loss", "task_loss", "consistency_loss"):
        np.testing.assert_allclose(chunked_logs[name], logs[name], rtol=2e-5)
    assert logs["consistency_loss"] > 1e-3
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-5)


@pytest.mark.only("tensorflow", reason="reads the graph of a step")
def test_no_tensor_of_training_holds_all_words_of_all_items(rng):
    """The largest tensor of a step's graph, by its static shape."""
    model = Subclass(random_masks(rng, 2, BATCH, WIDTH))
    x = rng.integers(1, WORDS, (BATCH, TIME)).astype("int32")
    model(x)

    def largest(chunk):
        model.compile(
            "sgd", loss_of(), rdrop=RDrop(1.0, vocabulary_chunk=chunk)
        )

        def objective():
            with tf.GradientTape() as tape:
                loss, _ = model.compute_rdrop_loss(x, x)
            return tape.gradient(loss, model.trainable_weights)

        traced = tf.function(objective, autograph=False)
        graph = traced.get_concrete_function().graph
        graphs = [graph, *(f.graph for f in _functions(graph))]
        return max(
            np.prod(tensor.shape[:-1])
            for each in graphs
            for operation in each.get_operations()
            for tensor in operation.outputs
            if tensor.shape.rank
            and tensor.shape.is_fully_defined()
            and tensor.shape[-1] == WORDS - CUTOFFS[-1]
        )

    # Two passes of four items at most, and the kernel of that cluster.
    assert largest(4) <= 2 * 4
    assert largest(None) >= BATCH * TIME


def _functions(graph):
    return [
        graph._get_function(name)
        for name in graph._functions
        if hasattr(graph._get_function(name), "graph")
    ]


def test_tail_dropout_alone_makes_the_passes_differ(tokens):
    model = functional(np.ones((2, BATCH, WIDTH), "float32"), dropout=0.5)
    model.compile("sgd", loss_of(), rdrop=RDrop(1.0, vocabulary_chunk="auto"))
    history = model.fit(*tokens[:2], batch_size=BATCH, verbose=0).history
    assert history["consistency_loss"][0] > 1e-3


def test_evaluates_by_the_log_probabilities_of_all_words(tokens, rng):
    x, y, _ = tokens
    model = Subclass(random_masks(rng, 2, BATCH, WIDTH))
    model.compile("sgd", loss_of(), rdrop=RDrop(1.0, vocabulary_chunk="auto"))
    model.fit(x, y, batch_size=BATCH, verbose=0)
    logs = np.array(model(x, training=False), "float64")
    np.testing.assert_allclose(np.exp(logs).sum(-1), 1.0, rtol=1e-5)
    nats = -np.take_along_axis(logs, y[..., None], -1)[..., 0]
    loss = model.evaluate(x, y, batch_size=BATCH, verbose=0)
    np.testing.assert_allclose(loss, nats[x != PAD].mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "loss, settings, message",
    [
        (LabelSmoothedCrossentropy(0.1), {}, "without label smoothing"),
        (loss_of(), {"dropout_rates": (0.1, 0.3)}, "dropout_rates=None"),
        (
            keras.losses.SparseCategoricalCrossentropy(),
            {},
            "from_logits=False and a head without",
        ),
    ],
)
def test_what_has_no_chunks_is_named(loss, settings, message, tokens, rng):
    model = functional(random_masks(rng, 2, BATCH, WIDTH), dropout=0.2)
    model.compile("sgd", loss, rdrop=RDrop(1.0, vocabulary_chunk=4, **settings))
    with pytest.raises(ValueError, match=message):
        model.train_on_batch(*tokens)
