"""Vocabulary heads: what has chunks equals the whole, the rest is named."""

import keras
import keras_hub
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.layers import AdaptiveSoftmax

BATCH, TIME, WIDTH, WORDS = 4, 3, 8, 13


def normal(seed):
    return keras.initializers.RandomNormal(stddev=0.5, seed=seed)


def embedding(cls=keras.layers.ReversibleEmbedding, **kwargs):
    return cls(WORDS, WIDTH, embeddings_initializer=normal(1), **kwargs)


def dense(cls=keras.layers.Dense, **kwargs):
    return cls(
        WORDS,
        kernel_initializer=normal(2),
        bias_initializer=normal(3),
        **kwargs,
    )


def adaptive(cls=AdaptiveSoftmax, **kwargs):
    return cls(WORDS, cutoffs=[5], div_value=2.0, **kwargs)


def end_with(head, masks, between=None, **call):
    """A functional model that ends with a head, and never with another."""
    tied = isinstance(head, keras.layers.Embedding)
    inputs = keras.Input((TIME,), dtype="int32")
    embed = head if tied else embedding()
    hidden = ScriptedDropout(masks)(embed(inputs))
    hidden = keras.layers.Dense(WIDTH, kernel_initializer=normal(4))(hidden)
    if between is not None:
        hidden = between(hidden)
    if tied:
        call = {"reverse": True, **call}
    return RDropModel(inputs, head(hidden, **call))


def train(build, chunk, steps=2, activated=False):
    rng = np.random.default_rng(5)
    x, y = rng.integers(1, WORDS, (2, BATCH, TIME))
    model = build(random_masks(rng, 2 * steps, BATCH, WIDTH))
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=not activated),
        rdrop=RDrop(5.0, vocabulary_chunk=chunk),
    )
    for _ in range(steps):
        logs = model.train_on_batch(x, y, return_dict=True)
    names = ("loss", "task_loss", "consistency_loss")
    return [logs[n] for n in names], [np.array(w) for w in model.weights]


def check_chunks(build, rtol=1e-5, atol=1e-5, **options):
    logs, weights = train(build, None, **options)
    found, of_found = train(build, 5, **options)
    np.testing.assert_allclose(found, logs, rtol=rtol)
    for weight, other in zip(weights, of_found, strict=True):
        np.testing.assert_allclose(other, weight, rtol=rtol, atol=atol)


def with_lora(head, masks, **call):
    """LoRA's second factor begins at 0, which gives the first no gradient."""
    model = end_with(head, masks, **call)
    head.enable_lora(2, lora_alpha=3.0)
    for weight in head.weights:
        if "lora" in weight.name:
            weight.assign(
                np.random.default_rng(6).normal(size=weight.shape) * 0.5
            )
    return model


def called_elsewhere(head, masks):
    """Its weights get gradients from two places, one of them in chunks."""
    shrink = keras.layers.Dense(WIDTH, kernel_initializer=normal(7))
    return end_with(head, masks, between=lambda h: shrink(head(h)))


class ByName(keras.layers.Dense):
    """Adds nothing: KerasHub's `ReversibleEmbedding` is such a class."""


LIMIT = keras.constraints.MaxNorm(0.8)


@pytest.mark.parametrize(
    "build",
    [
        lambda masks: with_lora(dense(), masks),
        lambda masks: with_lora(embedding(), masks),
        lambda masks: with_lora(embedding(tie_weights=False), masks),
        lambda masks: end_with(
            dense(kernel_constraint=LIMIT, bias_constraint=LIMIT), masks
        ),
        lambda masks: end_with(embedding(embeddings_constraint=LIMIT), masks),
        lambda masks: end_with(
            dense(kernel_regularizer="l2", bias_regularizer="l1"), masks
        ),
        lambda masks: end_with(embedding(embeddings_regularizer="l2"), masks),
        lambda masks: end_with(dense(trainable=False), masks),
        lambda masks: end_with(dense(ByName), masks),
        pytest.param(
            lambda masks: end_with(
                embedding(keras_hub.layers.ReversibleEmbedding), masks
            ),
            marks=pytest.mark.since(
                "0.26", package="keras_hub", reason="not a class of Keras"
            ),
        ),
        lambda masks: called_elsewhere(dense(), masks),
    ],
    ids=lambda build: "_".join(build.__code__.co_names),
)
def test_what_a_head_carries(build):
    check_chunks(build)


def test_the_input_of_a_head_by_name():
    def build(masks):
        inputs = keras.Input((TIME,), dtype="int32")
        embed = embedding()
        hidden = ScriptedDropout(masks)(embed(inputs))
        return RDropModel(inputs, embed(reverse=True, inputs=hidden))

    check_chunks(build)


@pytest.mark.parametrize(
    "around, head, options, exact",
    [
        ("mixed_float16", embedding, {"dtype": "float32"}, True),
        ("mixed_float16", embedding, {}, True),
        ("mixed_bfloat16", embedding, {}, True),
        ("mixed_float16", embedding, {"tie_weights": False}, True),
        ("mixed_float16", embedding, {"reverse_dtype": "float16"}, False),
        ("mixed_float16", dense, {"dtype": "float32"}, True),
        ("float32", embedding, {"dtype": "mixed_float16"}, True),
        ("float32", dense, {"dtype": "mixed_float16"}, False),
        (
            "float32",
            dense,
            {"dtype": "mixed_float16", "autocast": False},
            True,
        ),
    ],
)
def test_a_head_of_another_dtype(around, head, options, exact):
    """Exact where Keras gives float32 logits, of weights that are rounded.

    Keras takes the product of half precision inputs with embeddings in
    float32, since embeddings are not cast in a model that casts.
    """
    keras.config.set_dtype_policy(around)
    try:
        check_chunks(
            lambda masks: end_with(head(**options), masks),
            steps=1,
            rtol=1e-5 if exact else 2e-3,
            # The gradients of hidden states are rounded to half precision.
            atol=5e-4 if around == "mixed_float16" else 4e-3,
        )
    finally:
        keras.config.set_dtype_policy("float32")


class Tenth(keras.layers.Dense):
    def call(self, inputs, training=None):
        return 0.1 * super().call(inputs)


class TenthEmbedding(keras.layers.ReversibleEmbedding):
    def call(self, inputs, reverse=False):
        result = super().call(inputs, reverse=reverse)
        return 0.1 * result if reverse else result


class OwnKernel(keras.layers.Dense):
    @property
    def kernel(self):
        return 0.1 * self._kernel


class TenthAdaptive(AdaptiveSoftmax):
    def call(self, hidden, training=None):
        return 0.1 * super().call(hidden, training=training)


def replaced():
    layer = dense()
    call = layer.call
    layer.call = lambda inputs, training=None: 0.1 * call(inputs)
    return layer


def wrapped(cls):
    return cls(dense())


def quantized(make, mode):
    def build(masks):
        layer = make()
        model = end_with(layer, masks)
        layer.quantize(mode)
        return model

    return build


def ending(make, *args, **kwargs):
    return lambda masks: end_with(make(*args, **kwargs), masks)


def followed_by(last):
    def build(masks):
        model = end_with(dense(), masks)
        return RDropModel(model.inputs[0], last(model.outputs[0]))

    return build


REFUSED = {
    "Tenth": ending(dense, Tenth),
    "TenthEmbedding": ending(embedding, TenthEmbedding),
    "OwnKernel": ending(dense, OwnKernel),
    "TenthAdaptive": ending(adaptive, TenthAdaptive),
    "`call` that was set": ending(replaced),
    "activity_regularizer=": ending(dense, activity_regularizer="l2"),
    "activity_regularizer=<": ending(embedding, activity_regularizer="l2"),
    "activity_regularizer=.": ending(adaptive, activity_regularizer="l2"),
    "quantization_mode='int8'": quantized(dense, "int8"),
    "quantization_mode='int4'": quantized(dense, "int4"),
    "quantization_mode=.int8": quantized(embedding, "int8"),
    "quantization_mode=.int4": quantized(embedding, "int4"),
    "activation=<Softmax": ending(dense, activation=keras.layers.Softmax()),
    "activation=<lambda>": ending(dense, activation=lambda x: 0.1 * x),
    "activation=log_softmax": ending(dense, activation="log_softmax"),
    "logit_soft_cap=3.0": ending(embedding, logit_soft_cap=3.0),
    "SpectralNorm": ending(wrapped, keras.layers.SpectralNormalization),
    "TimeDistributed": ending(wrapped, keras.layers.TimeDistributed),
    "Rescaling": followed_by(lambda z: keras.layers.Rescaling(0.1)(z)),
    "ActivityRegularization": followed_by(
        lambda z: keras.layers.ActivityRegularization(0.1)(z)
    ),
    "Multiply": followed_by(lambda z: 0.1 * z),
    "other outputs": followed_by(lambda z: [z, 2.0 * z]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_more_than_a_product_is_named(message):
    if message == "other outputs" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras builds the loss first, and fails")
    with pytest.raises(ValueError, match=f"{message}.*vocabulary_chunk=None"):
        train(REFUSED[message], chunk=5)


class Twice(RDropModel):
    """Computes a loss of its own from the logits of another layer."""

    def __init__(self, masks):
        super().__init__()
        self.embedding = embedding()
        self.dropout = ScriptedDropout(masks)

    def call(self, ids, training=None):
        hidden = self.embedding(ids)
        first = self.vocabulary_logits(self.embedding, hidden, reverse=True)
        self.add_loss(keras.ops.mean(first**2))
        hidden = self.dropout(hidden, training=training)
        return self.vocabulary_logits(self.embedding, hidden, reverse=True)


def test_logits_that_a_class_computes_twice():
    with pytest.raises(ValueError, match="one call of `vocabulary_logits`"):
        train(Twice, chunk=5)
