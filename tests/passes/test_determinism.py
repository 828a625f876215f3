"""What draws random numbers is never run once for all passes.

Behind each source of noise there is a dropout that hardly ever drops out. If
the noise were shared, the passes would agree.
"""

import functools

import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropModel

FEATURES, CLASSES = 5, 3
layers, ops = keras.layers, keras.ops
generator = keras.random.SeedGenerator(4)
# Keras requires a generator in programs of JAX.
SEED = generator if keras.backend.backend() == "jax" else None


@keras.saving.register_keras_serializable("tests")
def noisy(x):
    return x + keras.random.normal(ops.shape(x), seed=SEED)


def scaled(x, by):
    return x + by * keras.random.normal(ops.shape(x), seed=generator)


class Noise:
    def __call__(self, x):
        return noisy(x)

    def method(self, x):
        return noisy(x)


@keras.saving.register_keras_serializable("tests")
class NoisyCell(layers.SimpleRNNCell):
    def call(self, sequence, states, training=False):
        output, states = super().call(sequence, states, training=training)
        return noisy(output), states


class NoisyDense(layers.Dense):
    def call(self, inputs, training=None):
        return noisy(super().call(inputs))


def replaced_call(x):
    layer = layers.Dense(FEATURES)
    layer.build(x.shape)
    call = layer.call
    layer.call = lambda inputs, training=None: noisy(call(inputs))
    return layer(x)


def as_series(x):
    return layers.Reshape((FEATURES, 1))(x)


SOURCES = {
    "activation": lambda x: layers.Activation(noisy)(x),
    "dense": lambda x: layers.Dense(FEATURES, activation=noisy)(x),
    "conv": lambda x: layers.Conv1D(2, 1, activation=noisy)(as_series(x)),
    "partial": lambda x: layers.Activation(functools.partial(scaled, by=2.0))(
        x
    ),
    "object": lambda x: layers.Activation(Noise())(x),
    "method": lambda x: layers.Activation(Noise().method)(x),
    "lambda": lambda x: layers.Lambda(noisy)(x),
    "subclass": lambda x: NoisyDense(FEATURES)(x),
    "replaced call": replaced_call,
    "cell": lambda x: layers.RNN(NoisyCell(4))(as_series(x)),
    "activation of a cell": lambda x: layers.RNN(
        layers.SimpleRNNCell(4, activation=noisy)
    )(as_series(x)),
    "recurrent": lambda x: layers.GRU(4, activation=noisy)(as_series(x)),
    "wrapped": lambda x: layers.TimeDistributed(
        layers.Dense(2, activation=noisy)
    )(as_series(x)),
    "nested": lambda x: keras.Sequential(
        [keras.Input((FEATURES,)), layers.Dense(4, activation=noisy)]
    )(x),
    "both ways": lambda x: layers.Bidirectional(
        layers.SimpleRNN(2, activation=noisy)
    )(as_series(x)),
    "map": lambda x: ops.map(noisy, x),
    "vectorized map": lambda x: ops.vectorized_map(noisy, x),
    "while loop": lambda x: ops.while_loop(
        lambda y, count: count < 2,
        lambda y, count: (noisy(y), count + 1),
        (x, 0.0 * ops.sum(x)),
    )[0],
    "noise layer": lambda x: layers.GaussianNoise(1.0)(x),
}


# On JAX a generator that a loop draws from keeps a value of the loop: the next
# draw fails, also in plain Keras.
IN_A_LOOP = (
    "cell",
    "activation of a cell",
    "recurrent",
    "both ways",
    "map",
    "while loop",
)


def consistency(source, run_eagerly, **options):
    # Before 3.13 Keras seeds only a new global generator.
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    inputs = keras.Input((FEATURES,))
    # Something to share in any case.
    hidden = layers.Dense(FEATURES, kernel_initializer="identity")(inputs)
    hidden = layers.Flatten()(source(hidden))
    hidden = layers.Dropout(1e-7)(hidden)
    head = layers.Dense(
        CLASSES,
        kernel_initializer=keras.initializers.RandomNormal(0, 1, seed=3),
    )
    model = RDropModel(inputs, head(hidden))
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=RDrop(2.0, check_dropout=False, **options),
        run_eagerly=run_eagerly,
    )
    x = np.random.default_rng(0).normal(size=(256, FEATURES))
    y = np.arange(256) % CLASSES
    return model.train_on_batch(x, y, return_dict=True)["consistency_loss"]


@pytest.mark.parametrize("name", SOURCES)
def test_noise_is_drawn_anew_in_each_pass(name):
    if name == "vectorized map" and keras.backend.backend() == "torch":
        pytest.skip("`vmap` draws no random numbers there")
    if name in IN_A_LOOP and keras.backend.backend() == "jax":
        pytest.skip("plain Keras cannot draw again after a loop that draws")
    shared = consistency(SOURCES[name], run_eagerly=False, passes="auto")
    called = consistency(SOURCES[name], run_eagerly=True, passes="calls")
    assert called > 1e-3
    # The same distribution, of which these are two samples.
    np.testing.assert_allclose(shared, called, rtol=0.5)


def test_what_draws_nothing_is_shared():
    inputs = keras.Input((FEATURES,))
    hidden = layers.Dense(
        4,
        activation="gelu",
        kernel_initializer=lambda shape, dtype: ops.ones(shape, dtype),
        kernel_regularizer="l2",
        kernel_constraint="non_neg",
    )(inputs)
    hidden = layers.Activation(keras.activations.relu)(hidden)
    hidden = ops.concatenate([hidden, ops.sin(hidden)], axis=-1)
    outputs = layers.Dense(2)(layers.Dropout(0.5, name="first")(hidden))
    model = RDropModel(inputs, outputs)
    model.compile("sgd", "mse", rdrop=1.0)
    assert "what comes before once" in model.rdrop_plan()
    assert "first stochastic layer: first" in model.rdrop_plan()
    model.train_on_batch(np.ones((3, FEATURES)), np.ones((3, 2)))
    assert "first stochastic layer: first" in model.rdrop_plan()


def test_compute_once_refuses_what_draws():
    class Once(RDropModel):
        def __init__(self):
            super().__init__()
            self.dropout = layers.Dropout(0.5)
            self.head = layers.Dense(2)

        def call(self, inputs, training=None):
            hidden = self.compute_once(self.dropout, inputs, training=training)
            return self.head(hidden)

    model = Once()
    model.compile("sgd", "mse", rdrop=1.0)
    with pytest.raises(ValueError, match="to draw no random numbers"):
        model.train_on_batch(np.ones((3, FEATURES)), np.ones((3, 2)))
