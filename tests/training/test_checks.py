"""Each way in which R-Drop goes wrong silently elsewhere is an error here."""

import builders
import keras
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel
from rdrop_keras.passes.dropout import stochastic_layers


def assert_untouched_by(model, fit, message):
    """`fit` fails with the message; nothing in model or optimizer moved."""
    model.optimizer.build(model.trainable_variables)
    variables = [*model.variables, *model.optimizer.variables]
    before = [np.array(v) for v in variables]
    with pytest.raises(ValueError, match=message) as error:
        fit()
    for old, variable in zip(before, variables):
        np.testing.assert_array_equal(old, np.array(variable))
    return str(error.value)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("steps_per_execution", [1, 2])
@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_dropout_of_rate_zero(kind, steps_per_execution, alpha):
    x, y = builders.data()
    model = builders.BUILDERS[kind](rate=0.0)
    model(x)
    model.compile(
        "adam",
        builders.cross_entropy(),
        rdrop=alpha,
        steps_per_execution=steps_per_execution,
    )
    text = assert_untouched_by(
        model,
        lambda: model.fit(x, y, epochs=2, verbose=0),
        "All rates are 0 in the layers looked at",
    )
    assert "(Dropout, rate=0)" in text
    assert "check_dropout=False" in text
    assert_untouched_by(
        model, lambda: model.train_on_batch(x, y), "identical outputs"
    )


def test_no_dropout_at_all():
    x, y = builders.data()
    inputs = keras.Input((builders.FEATURES,))
    model = RDropModel(inputs, keras.layers.Dense(3)(inputs))
    model.compile("adam", builders.cross_entropy())
    assert_untouched_by(
        model,
        lambda: model.fit(x, y, verbose=0),
        "no layer that draws random numbers",
    )


class Deaf(RDropModel):
    """Switches its dropout off."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(3)

    def call(self, inputs, training=None):
        return self.head(self.dropout(inputs, training=False))


class FixedSeed(RDropModel):
    """Draws the same mask at every call."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(3)

    def call(self, inputs, training=None):
        if training:
            inputs = keras.random.dropout(inputs, 0.5, seed=3)
        return self.head(inputs)


@pytest.mark.parametrize("cls", [Deaf, FixedSeed])
def test_dropout_that_does_not_reach_the_output(cls):
    x, y = builders.data()
    model = cls()
    model(x)
    model.compile("adam", builders.cross_entropy())
    text = assert_untouched_by(
        model, lambda: model.fit(x, y, verbose=0), "These layers have an active"
    )
    assert "dropout (Dropout, rate=0.5)" in text
    assert "fixed integer seed" in text


def test_check_is_made_once_a_compile_and_can_be_off():
    x, y = builders.data()
    model = builders.functional(rate=0.0)
    model.compile(
        "sgd", builders.cross_entropy(), rdrop=RDrop(1.0, check_dropout=False)
    )
    assert model.fit(x, y, verbose=0).history["consistency_loss"] == [0.0]
    model = builders.functional(rate=0.5)
    model.compile("sgd", builders.cross_entropy())
    model.fit(x, y, verbose=0)
    model.layers[2].rate = 0.0
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="identical outputs"):
        model.fit(x, y, verbose=0)


def test_saturated_outputs_are_not_taken_for_missing_dropout(rng):
    """Zero divergence with different logits is no inactive dropout."""
    inputs = keras.Input((2,))
    hidden = keras.layers.Dropout(0.5)(inputs)
    scale = keras.layers.Rescaling(1e4)(hidden)
    shift = keras.layers.Dense(
        2, kernel_initializer="zeros", bias_initializer="zeros"
    )
    model = RDropModel(inputs, scale + shift(hidden))
    model.compile("sgd", builders.cross_entropy())
    x = np.array([[9.0, -9.0]] * 64, "float32") + rng.random((64, 2))
    x[:, 1] = -50.0
    logs = model.train_on_batch(x, np.zeros(64), return_dict=True)
    assert logs["consistency_loss"] >= 0.0


def test_stochastic_layers_are_found_at_any_depth():
    inner = keras.Sequential(
        [keras.layers.Dropout(0.2), keras.layers.GaussianNoise(0.1)]
    )
    inputs = keras.Input((4, 8))
    attended = keras.layers.MultiHeadAttention(2, 4, dropout=0.3)(
        inputs, inputs
    )
    recurrent = keras.layers.LSTM(4, recurrent_dropout=0.4)(attended)
    model = keras.Model(inputs, keras.layers.Dense(2)(inner(recurrent)))
    rates = {}
    for layer, found in stochastic_layers(model):
        rates[type(layer).__name__] = max([0.0, *found.values()])
    assert rates["Dropout"] in (0.2, 0.3)
    assert rates["GaussianNoise"] == 0.1
    assert rates["MultiHeadAttention"] == 0.3
    assert rates["LSTM"] == rates["LSTMCell"] == 0.4
    assert "Dense" not in rates


def test_call_without_training():
    class NoTraining(RDropModel):
        def call(self, inputs):
            return inputs

    model = NoTraining()
    with pytest.raises(ValueError, match=r"NoTraining.call.* `training`"):
        model.compile("sgd", "mse")
    assert not model.compiled
    model.compile("sgd", "mse", rdrop=None)


def test_own_train_step_below_the_mixin():
    class OwnStep(keras.Model):
        def train_step(self, data):
            return {}

        def call(self, inputs, training=None):
            return inputs

    class Mixed(RDropMixin, OwnStep):
        pass

    with pytest.raises(TypeError, match="Override `compute_loss` instead"):
        Mixed().compile("sgd", "mse")
    Mixed().compile("sgd", "mse", rdrop=None)


@pytest.mark.only("tensorflow", reason="the arguments differ elsewhere")
def test_own_train_step_above_is_the_users_business():
    class Mine(builders.Subclassed):
        def train_step(self, data):
            return {"mine": keras.ops.ones(())}

    model = Mine()
    model.compile("sgd", "mse", rdrop=RDrop(1.0, check_dropout=False))
    x, y = builders.data()
    assert model.train_on_batch(x, y, return_dict=True) == {"mine": 1.0}


def test_mixin_after_the_model_class():
    with pytest.raises(TypeError, match="Write the mixin first"):

        class Wrong(keras.Sequential, RDropMixin):
            pass


# Keras itself warns on some backends only.
@pytest.mark.filterwarnings("ignore:.*received `from_logits=True`")
def test_softmax_applied_twice():
    x, y = builders.data()
    inputs, outputs = builders.graph()
    model = RDropModel(inputs, keras.layers.Softmax()(outputs))
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="result of a softmax or sigmoid"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "bce"])
def test_logits_read_as_probabilities(loss):
    x, y = builders.data()
    if loss == "bce":
        y = keras.utils.to_categorical(y, 3)
    model = builders.functional()
    model.compile("sgd", loss)
    assert_untouched_by(
        model, lambda: model.fit(x, y, verbose=0), "compile the loss with"
    )


def test_one_class():
    x, y = builders.data()
    inputs, outputs = builders.graph()
    model = RDropModel(inputs, keras.layers.Dense(1)(outputs))
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="two or more classes"):
        model.fit(x, np.zeros_like(y), verbose=0)


def test_integer_outputs():
    class Rounded(builders.Subclassed):
        def call(self, inputs, training=None):
            outputs = super().call(inputs, training=training)
            return keras.ops.cast(outputs, "int32")

    x, y = builders.data()
    model = Rounded()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="to be floating point"):
        model.fit(x, keras.utils.to_categorical(y, 3), verbose=0)


def test_outputs_of_different_shape():
    class Shrinking(builders.Subclassed):
        calls = 0

        def call(self, inputs, training=None):
            outputs = super().call(inputs, training=training)
            type(self).calls += 1
            return outputs[:, : 2 + self.calls % 2]

    x, y = builders.data()
    model = Shrinking()
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match=r"the same shape. Received: \[\("):
        model.fit(x, y // 2, verbose=0)


def test_divergence_that_cannot_be_inferred():
    x, y = builders.data()
    model = builders.functional()
    model.compile("sgd", "poisson")
    with pytest.raises(ValueError, match=r"loss='poisson'. Say how"):
        model.fit(x, keras.utils.to_categorical(y, 3), verbose=0)


def test_float8():
    x, y = builders.data()
    model = builders.functional()
    model.layers[1].quantize("float8")
    with pytest.raises(
        ValueError, match="float8 quantization. Received: dense"
    ):
        model.compile("sgd", builders.cross_entropy())
    model.compile("sgd", builders.cross_entropy(), rdrop=None)
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy())
    model.layers[1].quantize("float8")
    with pytest.raises(ValueError, match="float8"):
        model.fit(x, y, verbose=0)


@pytest.mark.only("tensorflow", "torch", reason="Keras does not warn on JAX")
def test_nothing_trainable_warns_as_keras_does():
    x, y = builders.data()
    model = builders.functional()
    model.trainable = False
    model.compile("sgd", builders.cross_entropy())
    with pytest.warns(UserWarning, match="not have any trainable weights"):
        model.fit(x, y, verbose=0)


def test_batch_norm_may_advance_once_a_pass(rng):
    """Two updates a step: the effective momentum is its square."""
    x = rng.normal(size=(16, 4)).astype("float32") + 1.0
    masks = np.repeat(random_masks(rng, 1, 16, 4), 4, axis=0)
    inputs = keras.Input((4,))
    hidden = ScriptedDropout(masks)(inputs)
    outputs = keras.layers.BatchNormalization(momentum=0.9)(hidden)
    model = RDropModel(inputs, outputs)
    rdrop = RDrop(1.0, check_dropout=False, moving_statistics="every_pass")
    model.compile("sgd", "mse", rdrop=rdrop)
    model.train_on_batch(x, x)
    mean = (x * masks[0]).mean(axis=0)
    np.testing.assert_allclose(
        np.array(model.layers[-1].moving_mean), mean * (1 - 0.9**2), rtol=1e-4
    )


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
@pytest.mark.parametrize("passes", [2, 3])
def test_batch_norm_as_of_one_plain_pass(passes, settings, rng):
    x = rng.normal(size=(16, 4)).astype("float32") + 1.0
    masks = random_masks(rng, passes, 16, 4)
    models = []
    for cls in (keras.Model, RDropModel):
        inputs = keras.Input((4,))
        hidden = ScriptedDropout(masks)(inputs)
        hidden = keras.layers.BatchNormalization(momentum=0.9)(hidden)
        hidden = keras.Sequential([keras.layers.BatchNormalization()])(hidden)
        model = cls(inputs, hidden)
        arguments = dict(settings)
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(
                1.0, num_passes=passes, moving_statistics="first_pass"
            )
        model.compile(keras.optimizers.SGD(0.0), "mse", **arguments)
        model.train_on_batch(x, x)
        models.append(model)
    names = [v.path for v in models[0].non_trainable_variables]
    assert sum("moving" in name for name in names) == 4
    for a, b in zip(*(model.non_trainable_variables for model in models)):
        if "moving" in a.path:
            np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-6)


def test_batch_norm_settings():
    with pytest.raises(ValueError, match=r"one of \('every_pass', 'first_"):
        RDrop(moving_statistics="none")


# Keras 3.15: dropout leaks a tracer, and a layer that was called before has no
# gradient.
NO_REMAT = "plain Keras cannot train through `keras.remat` on JAX"


class Rematerialized(RDropModel):
    """Recomputes its hidden layer, dropout and all, for the gradient."""

    def __init__(self, with_dropout=True):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(3)
        self.with_dropout = with_dropout

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((None, 8))

    def call(self, inputs, training=None):
        if self.with_dropout:
            block = keras.remat(
                lambda x: self.dropout(self.hidden(x), training=training)
            )
            return self.head(block(inputs))
        hidden = keras.remat(self.hidden)(inputs)
        return self.head(self.dropout(hidden, training=training))


@pytest.mark.only("tensorflow", reason=NO_REMAT + "; PyTorch draws alike")
@pytest.mark.parametrize("settings", [{}, {"run_eagerly": True}])
def test_rematerialized_dropout_is_refused(settings):
    x, y = builders.data()
    model = Rematerialized()
    model(x)
    model.compile("sgd", builders.cross_entropy(), **settings)
    before = [np.array(w) for w in model.trainable_weights]
    with pytest.raises(ValueError, match="draws? no random numbers"):
        model.train_on_batch(x, y)
    for old, weight in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, np.array(weight))
    # Outside, drawing works as before.
    assert keras.random.normal((2,)).shape == (2,)


def weights_after_a_step(model):
    x, y = builders.data()
    model(x)
    model.compile("sgd", builders.cross_entropy(), rdrop=5.0)
    model.train_on_batch(x, y)
    return [np.array(w) for w in model.weights]


@pytest.mark.only("tensorflow", "torch", reason=NO_REMAT)
def test_rematerialized_layers_without_dropout_train():
    """And with the very gradients of the model that keeps its activations."""
    results = []
    for remat in (True, False):
        keras.utils.set_random_seed(5)
        model = Rematerialized(with_dropout=False)
        if not remat:
            model.call = lambda inputs, training=None, m=model: m.head(
                m.dropout(m.hidden(inputs), training=training)
            )
        results.append(weights_after_a_step(model))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.only("tensorflow", "torch", reason=NO_REMAT)
def test_rematerialized_statistics_are_updated_once():
    """Plain Keras updates them in the backward pass too, on PyTorch."""

    class Normalized(RDropModel):
        def __init__(self, remat):
            super().__init__()
            self.normalization = keras.layers.BatchNormalization()
            self.dropout = keras.layers.Dropout(0.5)
            self.head = keras.layers.Dense(3)
            self.wrap = keras.remat if remat else lambda function: function

        def call(self, inputs, training=None):
            normalize = self.wrap(
                lambda x: self.normalization(x, training=training)
            )
            hidden = self.dropout(normalize(inputs), training=training)
            return self.head(hidden)

    results = []
    for remat in (True, False):
        keras.utils.set_random_seed(5)
        results.append(weights_after_a_step(Normalized(remat)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.only("tensorflow", reason="differentiates by a gradient tape")
def test_why_rematerialized_dropout_is_refused():
    """If this fails, Keras recomputes with the same masks, and the refusal
    should go."""
    import tensorflow as tf

    dropout = keras.layers.Dropout(0.5, seed=1)
    x = tf.ones((1, 64))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = keras.remat(lambda z: dropout(z, training=True) * z)(x)
    gradient = tape.gradient(y, x)
    assert np.any((np.array(gradient) == 0) != (np.array(y) == 0))


def test_other_backend_is_refused(monkeypatch):
    from rdrop_keras import training as trainers

    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(NotImplementedError, match="Received: 'numpy'"):
        trainers.trainer()
