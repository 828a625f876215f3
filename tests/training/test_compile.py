"""`compile`: its signature, where its arguments go, and how it is restored."""

import inspect
import warnings

import builders
import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

# Keras warns of a `compile` that it does not know the arguments of.
OWN = "`compile.*` was not called as part of model loading"


class Base(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dropout = keras.layers.Dropout(0.3)
        self.head = keras.layers.Dense(1)

    def call(self, inputs, training=None):
        return self.head(self.dropout(inputs, training=training))


class Below(Base):
    """What `compile` is given, it keeps; its defaults differ from Keras's."""

    def compile(self, learning_rate=0.25, loss="mae", *, tag="mine", **kwargs):
        self.given = (learning_rate, loss, tag, kwargs)
        optimizer = keras.optimizers.SGD(learning_rate)
        super().compile(optimizer, loss, **kwargs)


@keras.saving.register_keras_serializable("tests")
class PlainOwn(Base):
    def compile(self, learning_rate=None, **kwargs):
        optimizer = keras.optimizers.SGD(learning_rate)
        super().compile(optimizer, "mse", **kwargs)


@keras.saving.register_keras_serializable("tests")
class OwnAbove(RDropMixin, Base):
    def compile(self, learning_rate=None, **kwargs):
        optimizer = keras.optimizers.SGD(learning_rate)
        super().compile(optimizer, "mse", **kwargs)


@keras.saving.register_keras_serializable("tests")
class OwnBelow(RDropMixin, PlainOwn):
    pass


@keras.saving.register_keras_serializable("tests")
class OwnConfig(OwnAbove):
    def get_compile_config(self):
        rate = float(self.optimizer.learning_rate)
        rdrop = keras.saving.serialize_keras_object(self.rdrop)
        return {"learning_rate": rate, "rdrop": rdrop}

    def compile_from_config(self, config):
        self.compile(**keras.saving.deserialize_keras_object(config))


@keras.saving.register_keras_serializable("tests")
class ConfigBelow(PlainOwn):
    def get_compile_config(self):
        return {"learning_rate": float(self.optimizer.learning_rate)}

    def compile_from_config(self, config):
        self.compile(**config)


@keras.saving.register_keras_serializable("tests")
class OwnConfigBelow(RDropMixin, ConfigBelow):
    pass


def data():
    return np.ones((8, 3), "float32"), np.ones((8, 1), "float32")


@pytest.mark.parametrize("cls", [RDropModel, builders.MixedSequential])
def test_signature_is_that_of_keras_and_rdrop(cls):
    ours = inspect.signature(cls.compile).parameters
    keras_own = inspect.signature(keras.Model.compile).parameters
    names = list(ours)
    assert names == [*keras_own, "rdrop", "kwargs"]
    for name, parameter in keras_own.items():
        assert ours[name].default == parameter.default
        assert ours[name].kind is parameter.kind
    assert ours["rdrop"].default == 1.0
    assert ours["rdrop"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "Schedule" in str(ours["rdrop"].annotation)
    assert "self" not in inspect.signature(cls().compile).parameters


def test_arguments_by_position_are_keras_own():
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), None, ["accuracy"])
    x, y = builders.data()
    assert "accuracy" in model.fit(x, y, verbose=0).history


def test_the_class_below_keeps_its_defaults_and_arguments():
    model = type("Mixed", (RDropMixin, Below), {})()
    model.compile()
    assert model.given == (0.25, "mae", "mine", {})
    model.compile(0.5, tag="other", run_eagerly=True, rdrop=2.0)
    assert model.given == (0.5, "mae", "other", {"run_eagerly": True})
    assert model.rdrop == RDrop(2.0)


@pytest.mark.parametrize(
    "given", [{"alpha": 5}, {"num_passes": 3, "every": 2}, {"passes": "calls"}]
)
@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_settings_beside_rdrop_say_where_they_belong(kind, given):
    model = builders.BUILDERS[kind]()
    name, value = next(iter(given.items()))
    with pytest.raises(TypeError, match=rf"rdrop=RDrop\({name}={value!r}"):
        model.compile("sgd", builders.cross_entropy(), **given)
    assert not model.compiled


def test_a_class_below_may_have_an_argument_of_that_name():
    class Named(Base):
        def compile(self, *args, alpha, **kwargs):
            self.alpha = alpha
            super().compile(*args, **kwargs)

    model = type("Mixed", (RDropMixin, Named), {})()
    model.compile("sgd", "mse", alpha=3)
    assert model.alpha == 3
    with pytest.raises(TypeError, match="alfa"):
        model.compile("sgd", "mse", alpha=3, alfa=3)


def saved_and_loaded(model, path):
    """Returns the loaded model and the texts of Keras's warnings."""
    model.save(path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = keras.saving.load_model(path)
    texts = [str(each.message) for each in caught]
    return model, [text for text in texts if "compile()" in text]


@pytest.mark.parametrize("rdrop", [None, 2.0])
@pytest.mark.parametrize("cls", [OwnAbove, OwnBelow])
def test_own_compile_is_loaded_as_keras_loads_it(cls, rdrop, tmp_path):
    outcomes = []
    for each, kwargs in ((PlainOwn, {}), (cls, {"rdrop": rdrop})):
        model = each()
        model.compile(learning_rate=0.1, **kwargs)
        model.fit(*data(), verbose=0)
        again, texts = saved_and_loaded(model, tmp_path / "model.keras")
        assert type(again) is each
        np.testing.assert_array_equal(
            again.predict(data()[0], verbose=0),
            model.predict(data()[0], verbose=0),
        )
        # Plain Keras on PyTorch looks for the optimizer first.
        with pytest.raises((ValueError, AttributeError)) as error:
            again.fit(*data(), verbose=0)
        message = str(error.value).replace(each.__name__, "Model")
        outcomes.append((again.compiled, texts, error.type, message))
        again.compile(learning_rate=0.1, **kwargs)
        again.fit(*data(), verbose=0)
    assert outcomes[0] == outcomes[1]
    assert "is custom" in outcomes[1][1][0]


@pytest.mark.parametrize("rdrop", [None, RDrop(2.0)])
@pytest.mark.parametrize("cls", [OwnConfig, OwnConfigBelow])
def test_own_compile_config_is_called(cls, rdrop, tmp_path):
    model = cls()
    model.compile(learning_rate=0.125, rdrop=rdrop)
    model.fit(*data(), verbose=0)
    again, texts = saved_and_loaded(model, tmp_path / "model.keras")
    assert not texts
    assert float(again.optimizer.learning_rate) == 0.125
    assert again.rdrop == rdrop
    assert ("consistency_loss" in again.fit(*data(), verbose=0).history) == (
        rdrop is not None
    )
