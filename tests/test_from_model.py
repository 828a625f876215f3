"""`RDropModel.from_model`: one model, trained through another class."""

import builders
import keras
import numpy as np
import pytest

from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel


@keras.saving.register_keras_serializable("tests")
class Plain(keras.Model):
    """A model with weights of its own, made in `build`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.dropout = keras.layers.Dropout(0.3)
        self.head = keras.layers.Dense(builders.CLASSES)

    def build(self, input_shape):
        self.hidden.build(input_shape)
        self.head.build((None, 8))
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")
        self.built = True

    def call(self, inputs, training=None):
        hidden = self.dropout(self.hidden(inputs), training=training)
        return self.scale * self.head(hidden)


PLAIN = {
    "functional": lambda: keras.Model(*builders.graph()),
    "sequential": lambda: keras.Sequential(builders.layer_stack()),
    "built_sequential": lambda: keras.Sequential(
        [keras.Input((builders.FEATURES,)), *builders.layer_stack()]
    ),
    "subclassed": Plain,
}


@pytest.mark.parametrize("kind", PLAIN)
def test_trains_the_given_object_in_place(kind, tmp_path):
    x, y = builders.data()
    model = PLAIN[kind]()
    cls = type(model)
    trainer = RDropModel.from_model(model)
    assert isinstance(trainer, RDropMixin)
    assert isinstance(trainer, cls)
    trainer.compile(
        "adam", builders.cross_entropy(), metrics=["accuracy"], rdrop=5.0
    )
    history = trainer.fit(x, y, epochs=2, verbose=0).history
    assert history["consistency_loss"][0] > 0
    # The model given is the trained one, and still of its own class.
    assert type(model) is cls
    assert not isinstance(model, RDropMixin)
    assert model.built
    assert len(model.weights) == len(trainer.weights) >= 4
    for a, b in zip(model.weights, trainer.weights):
        assert a is b
    np.testing.assert_array_equal(
        model.predict(x, verbose=0), trainer.predict(x, verbose=0)
    )
    expected = trainer.evaluate(x, y, verbose=0, return_dict=True)
    assert model.evaluate(x, y, verbose=0, return_dict=True) == expected
    # What either saves is the plain model.
    model.save(tmp_path / "model.keras")
    trainer.save(tmp_path / "trainer.keras")
    for name in ("model", "trainer"):
        again = keras.saving.load_model(tmp_path / f"{name}.keras")
        assert type(again) is cls
        np.testing.assert_array_equal(
            again.predict(x, verbose=0), model.predict(x, verbose=0)
        )
        history = again.fit(x, y, verbose=0).history
        assert sorted(history) == ["accuracy", "loss"]


@pytest.mark.parametrize("kind", PLAIN)
def test_each_of_the_two_fits_its_own_way(kind):
    x, y = builders.data()
    model = PLAIN[kind]()
    trainer = RDropModel.from_model(model)
    trainer.compile("sgd", builders.cross_entropy())
    for _ in range(2):
        assert "consistency_loss" in trainer.fit(x, y, verbose=0).history
        assert sorted(model.fit(x, y, verbose=0).history) == ["loss"]
    # Compiling the model anew reaches the trainer: one optimizer, one loss.
    model.compile(keras.optimizers.SGD(0.0), builders.cross_entropy())
    before = [np.array(w) for w in model.trainable_weights]
    history = trainer.fit(x, y, verbose=0).history
    assert "consistency_loss" in history
    for old, w in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, np.array(w))


def test_same_numbers_as_a_model_of_our_own():
    x, y = builders.data()
    histories = []
    for make in (
        lambda: RDropModel.from_model(keras.Model(*builders.graph())),
        builders.functional,
    ):
        keras.utils.set_random_seed(2)
        model = make()
        model.compile("adam", builders.cross_entropy(), rdrop=3.0)
        histories.append(
            model.fit(x, y, epochs=2, shuffle=False, verbose=0).history
        )
    assert histories[0] == histories[1]


def test_checkpoint_callback_writes_the_plain_model(tmp_path):
    x, y = builders.data()
    model = keras.Sequential(builders.layer_stack())
    trainer = RDropModel.from_model(model)
    trainer.compile("sgd", builders.cross_entropy())
    path = tmp_path / "last.keras"
    trainer.fit(
        x, y, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)]
    )
    assert type(keras.saving.load_model(path)) is keras.Sequential
    weights = tmp_path / "last.weights.h5"
    trainer.save_weights(weights)
    model.load_weights(weights)


@pytest.mark.parametrize("kind", PLAIN)
def test_whatever_saves_the_trainer_saves_the_plain_model(kind, tmp_path):
    x, y = builders.data()
    model = PLAIN[kind]()
    trainer = RDropModel.from_model(model)
    trainer.compile("sgd", builders.cross_entropy(), metrics=["accuracy"])
    trainer.fit(x, y, verbose=0)
    path = tmp_path / "model.keras"
    keras.saving.save_model(trainer, path)
    again = keras.saving.load_model(path)
    assert type(again) is type(model)
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert sorted(again.fit(x, y, verbose=0).history) == ["accuracy", "loss"]


def test_clone_of_a_trainer():
    for kind in ("functional", "built_sequential"):
        trainer = RDropModel.from_model(PLAIN[kind]())
        trainer.compile("sgd", builders.cross_entropy())
        clone = keras.models.clone_model(trainer)
        assert clone.layers[0] is not trainer.layers[0]
        assert clone.count_params() == trainer.count_params()


def test_export(tmp_path):
    import tensorflow as tf

    x, y = builders.data()
    trainer = RDropModel.from_model(keras.Model(*builders.graph()))
    trainer.compile("sgd", builders.cross_entropy())
    trainer.fit(x, y, verbose=0)
    trainer.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")
    served = loaded.serve(x)
    np.testing.assert_allclose(
        served, trainer.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_a_model_of_ours_is_returned_as_it_is():
    model = builders.functional()
    assert RDropModel.from_model(model) is model


def test_one_view_class_for_each_class():
    one = RDropModel.from_model(keras.Sequential(builders.layer_stack()))
    two = RDropModel.from_model(keras.Sequential(builders.layer_stack()))
    assert type(one) is type(two)
    assert type(one) is not keras.Sequential


@pytest.mark.parametrize("thing", [None, 3, keras.layers.Dense(2)])
def test_only_models(thing):
    with pytest.raises(TypeError, match="Expected a `keras.Model`"):
        RDropModel.from_model(thing)
