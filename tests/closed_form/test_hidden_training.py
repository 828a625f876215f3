"""Training with `RDrop(vocabulary_chunk=...)` equals training without."""

import keras
import keras_hub
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.losses import LabelSmoothedCrossentropy

BATCH, TIME, WIDTH, WORDS = 6, 5, 8, 23
PAD = 0

MASKS_REVERSE = pytest.mark.since(
    "3.13", reason="`ReversibleEmbedding` masks entries of its reverse call"
)


def loss_of(ignore_class=None, **kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=ignore_class, **kwargs
    )


def embedding(**kwargs):
    return keras.layers.ReversibleEmbedding(
        WORDS,
        WIDTH,
        embeddings_initializer=keras.initializers.RandomNormal(
            stddev=0.5, seed=2
        ),
        **kwargs,
    )


def dense(**kwargs):
    return keras.layers.Dense(
        WORDS,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=3),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=4),
        **kwargs,
    )


def functional(masks, tied=False, **kwargs):
    inputs = keras.Input((TIME,), dtype="int32")
    embed = embedding(mask_zero=True)
    hidden = ScriptedDropout(masks)(embed(inputs))
    if tied:
        return RDropModel(inputs, embed(hidden, reverse=True))
    return RDropModel(inputs, dense(**kwargs)(hidden))


class Subclass(RDropModel):
    def __init__(self, masks, tied=False, **kwargs):
        super().__init__()
        self.embedding = embedding(mask_zero=True)
        self.dropout = ScriptedDropout(masks)
        self.head = None if tied else dense(**kwargs)

    def call(self, inputs, training=None):
        hidden = self.embedding(inputs)
        hidden = self.dropout(hidden, training=training)
        if self.head is None:
            return self.vocabulary_logits(self.embedding, hidden, reverse=True)
        return self.vocabulary_logits(self.head, hidden)


def tokens(rng):
    x = rng.integers(1, WORDS, (BATCH, TIME))
    x[1, 2:] = x[4, 4:] = PAD
    y = np.where(x == PAD, PAD, rng.integers(1, WORDS, x.shape))
    return x, y, rng.random(x.shape).astype("float32")


def train(model, loss, data, steps=2, **rdrop):
    optimizer = keras.optimizers.SGD(0.5, momentum=0.9)
    jit_compile = rdrop.pop("jit_compile", False)
    # The reference needs no graph, which takes longer to trace than to run.
    run_eagerly = rdrop["vocabulary_chunk"] is None
    model.compile(
        optimizer,
        loss,
        metrics=["accuracy"],
        rdrop=RDrop(5.0, **rdrop),
        jit_compile=jit_compile and not run_eagerly,
        run_eagerly=run_eagerly,
    )
    for _ in range(steps):
        logs = model.train_on_batch(*data, return_dict=True)
    return logs, [np.array(w) for w in model.weights]


@pytest.mark.parametrize(
    "build, loss, rdrop, options",
    [
        (functional, loss_of(), {}, {}),
        pytest.param(
            functional,
            loss_of(PAD),
            {"jit_compile": True},
            {"tied": True},
            marks=MASKS_REVERSE,
        ),
        (functional, loss_of(), {"passes": "shared_prefix"}, {}),
        (
            functional,
            keras.losses.SparseCategoricalCrossentropy(reduction="sum"),
            {},
            {"activation": "softmax"},
        ),
        pytest.param(
            Subclass, loss_of(PAD), {}, {"tied": True}, marks=MASKS_REVERSE
        ),
        (
            Subclass,
            LabelSmoothedCrossentropy(0.1, ignore_class=PAD),
            {"num_passes": 3, "jit_compile": True},
            {"use_bias": False},
        ),
        (Subclass, loss_of(), {"stop_gradient": True}, {}),
    ],
)
def test_same_logs_and_weights(build, loss, rdrop, options, rng):
    data = tokens(rng)
    masks = random_masks(rng, 2 * rdrop.get("num_passes", 2), BATCH, WIDTH)
    results = [
        train(
            build(masks, **options), loss, data, vocabulary_chunk=chunk, **rdrop
        )
        for chunk in (None, 4)
    ]
    (logs, weights), (chunked_logs, chunked_weights) = results
    for name in ("loss", "task_loss", "consistency_loss"):
        np.testing.assert_allclose(chunked_logs[name], logs[name], rtol=2e-5)
    assert logs["consistency_loss"] > 1e-3
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(TIME,), (TIME, 1), (TIME, TIME, 1)])
def test_weights_of_every_shape(shape, rng):
    """As many rows as tokens in each: `(batch,)` runs along the last axis."""
    x, y, _ = (part[:TIME] for part in tokens(rng))
    masks = random_masks(rng, 2, TIME, WIDTH)
    weights = rng.random(shape).astype("float32")
    results = [
        train(
            functional(masks),
            loss_of(),
            (x, y, weights),
            steps=1,
            vocabulary_chunk=chunk,
        )
        for chunk in (None, 4)
    ]
    (logs, trained), (chunked_logs, chunked) = results
    for name in ("loss", "task_loss", "consistency_loss"):
        np.testing.assert_allclose(chunked_logs[name], logs[name], rtol=2e-5)
    for weight, other in zip(trained, chunked, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-5)


def test_the_logs_count_tokens_of_the_first_pass(rng):
    x, y, _ = tokens(rng)
    masks = random_masks(rng, 2, BATCH, WIDTH)
    model = functional(masks)
    kernel, bias = (np.array(w) for w in model.layers[-1].weights)
    table = np.array(model.layers[1].embeddings)
    logits = (table[x] * masks[0][:, None]) @ kernel + bias
    shifted = logits - logits.max(-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    counted = x != PAD
    nll = -np.take_along_axis(logs, y[..., None], -1)[..., 0][counted]
    right = (logits.argmax(-1) == y)[counted]
    result, _ = train(
        model, loss_of(PAD), (x, y), steps=1, vocabulary_chunk="auto"
    )
    assert set(result) == {
        "loss",
        "task_loss",
        "consistency_loss",
        "token_accuracy",
        "perplexity",
    }
    np.testing.assert_allclose(result["token_accuracy"], right.mean())
    np.testing.assert_allclose(
        result["perplexity"], np.exp(nll.mean()), rtol=1e-5
    )


def test_fit_evaluate_and_predict(rng):
    x, y, _ = tokens(rng)
    model = functional(random_masks(rng, 2, BATCH, WIDTH))
    model.compile(
        "sgd",
        loss_of(PAD),
        metrics=["accuracy"],
        rdrop=RDrop(5.0, vocabulary_chunk=4),
    )
    history = model.fit(
        x, y, validation_data=(x, y), epochs=1, verbose=0, batch_size=BATCH
    ).history
    assert "accuracy" not in history
    assert "val_perplexity" not in history
    logs = model.evaluate(x, y, return_dict=True, verbose=0)
    logits = model.predict(x, verbose=0)
    assert logits.shape == (BATCH, TIME, WORDS)
    np.testing.assert_allclose(
        logs["accuracy"], (logits.argmax(-1) == y)[x != PAD].mean(), rtol=1e-6
    )
    assert history["val_accuracy"] == [pytest.approx(logs["accuracy"])]
    assert "logits of 4 items at a time" in model.rdrop_plan()


def test_regularizers_and_loss_weights(rng):
    data = tokens(rng)
    masks = random_masks(rng, 2, BATCH, WIDTH)
    results = []
    for chunk in (None, 4):
        model = functional(masks, kernel_regularizer="l2")
        model.compile(
            keras.optimizers.SGD(0.5),
            loss_of(),
            loss_weights=0.25,
            rdrop=RDrop(5.0, vocabulary_chunk=chunk),
            run_eagerly=chunk is None,
        )
        logs = model.train_on_batch(*data, return_dict=True)
        results.append((logs, [np.array(w) for w in model.weights]))
    (logs, weights), (chunked_logs, chunked_weights) = results
    for name, value in logs.items():
        np.testing.assert_allclose(chunked_logs[name], value, rtol=2e-5)
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-5)


@MASKS_REVERSE
def test_half_precision_keeps_the_head_of_the_layer(rng):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        data = tokens(rng)
        masks = random_masks(rng, 2, BATCH, WIDTH)
        results = [
            train(
                functional(masks, tied=True),
                loss_of(),
                data,
                steps=1,
                vocabulary_chunk=chunk,
            )
            for chunk in (None, 4)
        ]
    finally:
        keras.config.set_dtype_policy("float32")
    (logs, weights), (chunked_logs, chunked_weights) = results
    np.testing.assert_allclose(chunked_logs["loss"], logs["loss"], rtol=1e-3)
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-2, atol=2e-3)


@pytest.mark.since("0.26", package="keras_hub", reason="own reversible layer")
def test_a_keras_hub_language_model():
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=WORDS,
        num_layers=1,
        num_heads=2,
        hidden_dim=WIDTH,
        intermediate_dim=16,
        max_sequence_length=TIME,
        dropout=0.2,
    )
    causal = keras_hub.models.GPT2CausalLM(backbone, preprocessor=None)
    # KerasHub compiles in the constructor.
    with pytest.warns(UserWarning, match="compiled already"):
        trainer = RDropModel.from_model(causal)
    trainer.compile("sgd", loss_of(), rdrop=RDrop(1.0, vocabulary_chunk="auto"))
    x = {
        "token_ids": np.arange(10).reshape(2, 5) + 1,
        "padding_mask": np.ones((2, 5), "int32"),
    }
    logs = trainer.train_on_batch(x, x["token_ids"], return_dict=True)
    np.testing.assert_allclose(
        logs["perplexity"], np.exp(logs["task_loss"]), rtol=0.1
    )
    assert logs["consistency_loss"] > 0


class Scaled(Subclass):
    def call(self, inputs, training=None):
        return 2.0 * super().call(inputs, training=training)


class NoHead(Subclass):
    def call(self, inputs, training=None):
        hidden = self.embedding(inputs)
        return self.head(self.dropout(hidden, training=training))


@pytest.mark.parametrize(
    "build, options, loss, message",
    [
        (Scaled, {}, loss_of(), "computes something else of them"),
        (NoHead, {}, loss_of(), "vocabulary_logits"),
        (functional, {"activation": "relu"}, loss_of(), "activation=relu"),
        (
            functional,
            {},
            keras.losses.SparseCategoricalCrossentropy(),
            "from_logits=False and a head without",
        ),
        (functional, {}, "mse", "loss of class ids"),
    ],
)
def test_what_has_no_chunks_is_named(build, options, loss, message, rng):
    if loss == "mse" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras computes the loss first, and fails")
    model = build(random_masks(rng, 2, BATCH, WIDTH), **options)
    with pytest.raises(ValueError, match=message):
        train(model, loss, tokens(rng), vocabulary_chunk=4)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"vocabulary_chunk": 0}, "vocabulary_chunk"),
        ({"vocabulary_chunk": "all"}, "'auto' or None"),
        ({"passes": "concat"}, "passes='auto'"),
        ({"every": 2}, "every=1"),
        ({"unlabeled": "zero_weight"}, "unlabeled=None"),
    ],
)
def test_settings_that_contradict(settings, message):
    with pytest.raises(ValueError, match=message):
        RDrop(1.0, **{"vocabulary_chunk": 4, **settings})


def test_identical_passes_are_named(rng):
    masks = np.repeat(random_masks(rng, 1, BATCH, WIDTH), 2, axis=0)
    model = functional(masks)
    model.compile("sgd", loss_of(), rdrop=RDrop(1.0, vocabulary_chunk=4))
    x, y, _ = tokens(rng)
    with pytest.raises(ValueError, match="identical"):
        model.fit(x, y, batch_size=BATCH, verbose=0)


def test_settings_survive_saving(rng, tmp_path):
    model = functional(random_masks(rng, 2, BATCH, WIDTH))
    settings = RDrop(1.0, vocabulary_chunk="auto", fused=False)
    model.compile("sgd", loss_of(), rdrop=settings)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.rdrop == settings


def test_the_loop_of_ones_own_in_eager_mode(rng):
    """The compiled loss is not built yet, and labels exceed the width."""
    x, y, _ = tokens(rng)
    masks = random_masks(rng, 2, BATCH, WIDTH)
    losses = []
    for chunk in (None, 4):
        model = functional(masks)
        model.compile(
            "sgd", loss_of(), rdrop=RDrop(5.0, vocabulary_chunk=chunk)
        )
        losses.append(np.array(model.compute_rdrop_loss(x, y)[0]))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
