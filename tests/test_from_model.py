"""`RDropModel.from_model`: one model, trained through another class."""

import builders
import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

LOGS = ["consistency_loss", "loss", "task_loss"]


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
    assert isinstance(trainer, RDropModel)
    assert isinstance(trainer, cls)
    trainer.compile(
        "adam",
        builders.cross_entropy(),
        metrics=["accuracy"],
        rdrop=5.0,
        run_eagerly=kind != "functional",
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
    eager = kind != "functional"
    trainer.compile("sgd", builders.cross_entropy(), run_eagerly=eager)
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
    trainer.compile(
        "sgd",
        builders.cross_entropy(),
        metrics=["accuracy"],
        run_eagerly=kind != "functional",
    )
    trainer.fit(x, y, verbose=0)
    path = tmp_path / "model.keras"
    keras.saving.save_model(trainer, path)
    again = keras.saving.load_model(path)
    assert type(again) is type(model)
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert sorted(again.fit(x, y, verbose=0).history) == ["accuracy", "loss"]


@pytest.mark.only("tensorflow", "jax", reason="no export on PyTorch")
@pytest.mark.filterwarnings("ignore:The `native_serialization` parameter")
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


def compile_plain(model, **kwargs):
    model.compile(
        "adam", builders.cross_entropy(), metrics=["accuracy"], **kwargs
    )


TAKES_OVER = (
    "Adam at iteration 2, loss='sparse_categorical_crossentropy', "
    r"metrics=\['accuracy'\].*alpha 1.0.*trainer.compile\(trainer.optimizer, "
    "trainer.loss, rdrop="
)


@pytest.mark.parametrize("kind", PLAIN)
def test_a_compiled_model_is_taken_over_with_rdrop(kind):
    x, y = builders.data()
    model = PLAIN[kind]()
    compile_plain(model)
    model.fit(x, y, verbose=0)
    optimizer, train_function = model.optimizer, model.train_function
    with pytest.warns(UserWarning, match=TAKES_OVER):
        trainer = RDropModel.from_model(model)
    assert trainer.rdrop == RDrop(1.0)
    assert trainer.optimizer is optimizer
    history = trainer.fit(x, y, verbose=0).history
    assert sorted(history) == ["accuracy", *LOGS]
    assert int(optimizer.iterations) == 4
    # The model stays plain, with a training function of its own.
    assert model.train_function is train_function
    assert sorted(model.fit(x, y, verbose=0).history) == ["accuracy", "loss"]
    # Another trainer of it does not change the settings again.
    trainer.compile("sgd", builders.cross_entropy(), rdrop=3.0)
    assert RDropModel.from_model(model).rdrop == RDrop(3.0)


def test_taken_over_it_trains_as_if_compiled_with_the_default():
    x, y = builders.data()
    histories = []
    for compiled_first in (True, False):
        keras.utils.set_random_seed(2)
        model = keras.Model(*builders.graph())
        if compiled_first:
            compile_plain(model)
            with pytest.warns(UserWarning, match="compiled already"):
                trainer = RDropModel.from_model(model)
        else:
            trainer = RDropModel.from_model(model)
            compile_plain(trainer)
        histories.append(trainer.fit(x, y, shuffle=False, verbose=0).history)
    assert histories[0] == histories[1]
    assert sorted(histories[0]) == ["accuracy", *LOGS]


@pytest.mark.parametrize("how", ["fit", "train_on_batch", "loss", "plan"])
def test_a_model_compiled_after_its_trainer_was_made(how):
    x, y = builders.data()
    model = keras.Model(*builders.graph())
    trainer = RDropModel.from_model(model)
    assert trainer.rdrop is None
    compile_plain(model)
    with pytest.warns(UserWarning, match="compiled already"):
        if how == "fit":
            logs = trainer.fit(x, y, verbose=0).history
        elif how == "train_on_batch":
            logs = trainer.train_on_batch(x, y, return_dict=True)
        elif how == "loss":
            trainer.compute_rdrop_loss(x, y)
            logs = trainer.fit(x, y, verbose=0).history
        else:
            assert "2 passes" in trainer.rdrop_plan()
            logs = trainer.fit(x, y, verbose=0).history
    assert sorted(logs) == ["accuracy", *LOGS]
    assert trainer.rdrop == RDrop(1.0)


def test_a_trainer_compiled_without_rdrop_stays_plain():
    model = keras.Model(*builders.graph())
    trainer = RDropModel.from_model(model)
    compile_plain(trainer, rdrop=None)
    compile_plain(model)
    history = trainer.fit(*builders.data(), verbose=0).history
    assert sorted(history) == ["accuracy", "loss"]


def test_a_compiled_model_is_checked():
    class Own(keras.Sequential):
        def train_step(self, data):
            return super().train_step(data)

    class NoTraining(keras.Model):
        def call(self, inputs):
            return inputs

    for cls, error, message in (
        (Own, TypeError, "own `train_step`"),
        (NoTraining, ValueError, "`training` argument"),
    ):
        model = cls()
        trainer = RDropModel.from_model(model)
        model.compile("sgd", "mse")
        with pytest.raises(error, match=message):
            RDropModel.from_model(model)
        with pytest.raises(error, match=message):
            assert trainer.rdrop


def test_model_and_trainer_evaluate_in_turn():
    x, y = builders.data()
    plain = PLAIN["functional"]()
    trainer = RDropModel.from_model(plain)
    compile_plain(trainer, rdrop=5.0)
    settings = dict(verbose=0, return_dict=True)
    before = trainer.evaluate(x, y, **settings)
    assert plain.evaluate(x, y, **settings) == before
    trainer.fit(x, y, verbose=0)
    after = trainer.evaluate(x, y, **settings)
    assert plain.evaluate(x, y, **settings) == after != before


@pytest.mark.parametrize("kind", PLAIN)
def test_training_goes_on_from_a_checkpoint_as_if_uninterrupted(kind, tmp_path):
    x, y = builders.data()
    path = tmp_path / "checkpoint.keras"
    seeded = builders.Seeded()
    fit = dict(shuffle=False, verbose=0)

    def trainer():
        keras.utils.set_random_seed(4)
        made = RDropModel.from_model(PLAIN[kind]())
        compile_plain(made, rdrop=5.0, run_eagerly=True)
        return made

    expected = trainer()
    history = expected.fit(x, y, epochs=3, callbacks=[seeded], **fit).history
    saved = keras.callbacks.ModelCheckpoint(path)
    stopped = trainer()
    stopped.fit(x, y, epochs=1, callbacks=[seeded, saved], **fit)
    with pytest.warns(UserWarning, match=TAKES_OVER):
        again = RDropModel.from_model(keras.models.load_model(path))
    # Keras does not save the state of seed generators.
    seeds = (
        [v for v in model.variables if "seed_generator" in v.path]
        for model in (stopped, again)
    )
    builders.copy_values(*seeds)
    again.compile(
        again.optimizer,
        again.loss,
        metrics=["accuracy"],
        rdrop=5.0,
        run_eagerly=True,
    )
    rest = again.fit(
        x, y, initial_epoch=1, epochs=3, callbacks=[seeded], **fit
    ).history
    assert rest == {key: values[1:] for key, values in history.items()}
    assert int(again.optimizer.iterations) == 6
    for a, b in zip(expected.weights, again.weights):
        np.testing.assert_array_equal(a, b)


def test_an_existing_model_goes_to_from_model():
    model = keras.Model(*builders.graph())
    for arguments, kwargs in (((model,), {}), ((), {"model": model})):
        with pytest.raises(TypeError, match=r"RDropModel.from_model\(model\)"):
            RDropModel(*arguments, **kwargs)
    with pytest.raises(TypeError, match="from_model"):
        builders.Subclassed(model=model)
