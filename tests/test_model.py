"""The ways to make a model, each saved, reloaded and refitted."""

import importlib
import pathlib
import subprocess
import sys

import builders
import keras
import numpy as np
import pytest

import rdrop_keras
from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

TESTS = pathlib.Path(__file__).parent
LOGS = ["accuracy", "consistency_loss", "loss", "task_loss"]


def compiled(kind, rdrop=5.0, **kwargs):
    model = builders.BUILDERS[kind]()
    model.compile(
        "adam",
        builders.cross_entropy(),
        metrics=["accuracy"],
        rdrop=rdrop,
        **kwargs,
    )
    return model


def seeds(model):
    return [v for v in model.variables if "seed_generator" in v.path]


def test_kinds_of_class():
    functional = builders.functional()
    assert isinstance(functional, RDropModel)
    assert type(functional).__name__ == "RDropModel"
    assert functional.name.startswith("r_drop_model")
    assert functional.layers[-1].units == builders.CLASSES
    assert isinstance(builders.Subclassed(), RDropModel)
    assert isinstance(builders.OwnGraph(), RDropMixin)
    assert RDropModel.__bases__ == (RDropMixin, keras.Model)


@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_fit_logs(kind):
    x, y = builders.data()
    model = compiled(kind)
    history = model.fit(x, y, epochs=2, validation_data=(x, y), verbose=0)
    expected = [*LOGS, "val_accuracy", "val_loss"]
    assert sorted(history.history) == expected
    for values in history.history.values():
        assert len(values) == 2
    logs = {key: values[-1] for key, values in history.history.items()}
    np.testing.assert_allclose(
        logs["loss"], logs["task_loss"] + 2.5 * logs["consistency_loss"], 1e-5
    )
    assert logs["consistency_loss"] > 1e-4
    assert sorted(model.train_on_batch(x, y, return_dict=True)) == LOGS
    assert len(model.train_on_batch(x, y)) == 2  # Loss and accuracy.


@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_saved_reloaded_refitted(kind, tmp_path):
    x, y = builders.data()
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 10, 4.0)
    model = compiled(kind, rdrop=RDrop(schedule, check_dropout=False))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert type(again) is type(model)
    assert again.compiled
    assert again.rdrop.get_config() == model.rdrop.get_config()
    assert isinstance(again.rdrop.alpha, type(schedule))
    np.testing.assert_array_equal(
        again.predict(x, verbose=0), model.predict(x, verbose=0)
    )
    assert int(again.optimizer.iterations) == int(model.optimizer.iterations)
    history = again.fit(x, y, verbose=0).history
    assert sorted(history) == sorted([*LOGS, "alpha"])


@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_reloaded_model_takes_the_same_next_step(kind, tmp_path):
    x, y = builders.data()
    model = compiled(kind)
    model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    # Keras does not save the state of seed generators.
    builders.copy_values(*map(seeds, (model, again)))
    logs = []
    for each in (model, again):
        each.reset_metrics()
        # Dropout draws from a global generator on PyTorch.
        keras.utils.set_random_seed(5)
        logs.append(each.train_on_batch(x, y, return_dict=True))
    one, two = logs
    assert one == two
    for a, b in zip(model.weights, again.weights):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_all_kinds_interleaved_in_one_process(tmp_path):
    """Keras rewrites the bases of classes used functionally (keras#17270)."""
    x, y = builders.data()
    models = {}
    kinds = list(builders.BUILDERS)
    for order in (kinds, kinds[::-1]):
        for kind in order:
            models[kind] = compiled(kind, run_eagerly=True)
        for kind in reversed(order):
            models[kind].fit(x, y, verbose=0)
            path = tmp_path / f"{kind}.keras"
            models[kind].save(path)
            models[kind] = keras.saving.load_model(path)

    class Late(RDropModel):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5)

        def call(self, inputs, training=None):
            return self.dropout(inputs, training=training)

    assert Late()(np.ones((2, 3))).shape == (2, 3)
    for model in models.values():
        model.fit(x, y, verbose=0)
        assert model.predict(x, verbose=0).shape == (len(x), 3)


def test_functional_arguments_to_a_subclass_say_what_to_write():
    class My(RDropModel):
        pass

    message = r"class My\(RDropMixin, keras.Model\)"
    with pytest.raises(TypeError, match=message):
        My(*builders.graph())
    with pytest.raises(TypeError, match=message):
        inputs, outputs = builders.graph()
        My(inputs=inputs, outputs=outputs)
    assert RDropModel.__bases__ == (RDropMixin, keras.Model)


def test_keyword_inputs_and_outputs():
    inputs, outputs = builders.graph()
    for model in (
        RDropModel(inputs=inputs, outputs=outputs, name="named"),
        RDropModel(inputs, outputs=outputs, name="named"),
    ):
        assert model.name == "named"
        assert model.output_shape == (None, 3)


def test_reload_in_a_process_that_only_imports_us(tmp_path):
    x, y = builders.data()
    model = compiled("functional", rdrop=RDrop(2.5, divergence="categorical"))
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "data.npz", x=x, y=y, p=model.predict(x, verbose=0))
    script = f"""
import keras, numpy as np, rdrop_keras
model = keras.saving.load_model({str(tmp_path / "model.keras")!r})
data = np.load({str(tmp_path / "data.npz")!r})
np.testing.assert_allclose(model.predict(data["x"], verbose=0), data["p"],
                           rtol=1e-6)
assert type(model) is rdrop_keras.model.FunctionalRDropModel
assert model.rdrop == rdrop_keras.RDrop(2.5, divergence="categorical")
history = model.fit(data["x"], data["y"], verbose=0).history
assert history["consistency_loss"][0] > 0
print("reloaded")
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert result.stdout.strip().endswith("reloaded"), result.stderr


@pytest.mark.parametrize("registered", [False, True])
def test_reload_in_a_process_needs_our_import(registered, tmp_path):
    """Keras finds a class only where something registered it."""
    model = compiled("mixed_sequential" if registered else "functional")
    model.save(tmp_path / "model.keras")
    load = f"keras.saving.load_model({str(tmp_path / 'model.keras')!r}).rdrop"
    import_ours = "import rdrop_keras"
    if registered:
        import_ours = f"sys.path.append({str(TESTS)!r}); import builders"
    script = f"""
import keras, sys
try:
    {load}
except TypeError as error:
    print(error)
{import_ours}
print({load})
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    error, _, last = result.stdout.strip().rpartition("\n")
    assert "Could not locate class" in error
    assert "make sure they are all imported" in error
    assert last.startswith("RDrop(alpha=5.0"), result.stderr


def test_settings_of_compile():
    model = builders.functional()
    loss = builders.cross_entropy()
    model.compile("sgd", loss)
    assert model.rdrop == RDrop(alpha=1.0)
    for value, expected in [
        (2, RDrop(2.0)),
        (np.float32(0.5), RDrop(0.5)),
        (True, RDrop(1.0)),
        (0, RDrop(0.0)),
        (None, None),
        (False, None),
        (RDrop(3.0, "categorical"), RDrop(3.0, "categorical")),
    ]:
        model.compile("sgd", loss, rdrop=value)
        assert model.rdrop == expected


@pytest.mark.parametrize(
    "value, error, message",
    [
        (-1.0, ValueError, "finite and >= 0. Received: alpha=-1.0"),
        (float("nan"), ValueError, "finite and >= 0"),
        (float("inf"), ValueError, "finite and >= 0"),
        ("5", TypeError, "Received: rdrop='5'"),
        ([1.0], TypeError, "Expected `rdrop` to be a number"),
        ({"alpha": 1.0}, TypeError, "Expected `rdrop` to be a number"),
    ],
)
def test_bad_settings_leave_the_model_as_it_was(value, error, message):
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=2.0)
    optimizer = model.optimizer
    with pytest.raises(error, match=message):
        model.compile("adam", builders.cross_entropy(), rdrop=value)
    assert model.optimizer is optimizer
    assert model.rdrop == RDrop(2.0)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"alpha": "1"}, TypeError, "Expected `alpha` to be a number"),
        ({"alpha": True}, TypeError, "Expected `alpha` to be a number"),
        ({"divergence": "kl"}, ValueError, "Received: divergence='kl'"),
        ({"divergence": 3}, TypeError, "Expected `divergence`"),
        ({"check_dropout": 1}, TypeError, "Expected `check_dropout`"),
    ],
)
def test_bad_rdrop(arguments, error, message):
    with pytest.raises(error, match=message):
        RDrop(**arguments)


def test_rdrop_config_round_trip():
    import json

    from rdrop_keras.losses import BernoulliConsistency

    schedule = keras.optimizers.schedules.CosineDecay(3.0, 100)
    settings = RDrop(
        schedule, BernoulliConsistency(from_logits=True), check_dropout=False
    )
    config = json.loads(
        json.dumps(keras.saving.serialize_keras_object(settings))
    )
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == settings.get_config()
    assert again.divergence.from_logits is True
    assert again.check_dropout is False
    assert float(again.alpha_at(50)) == float(schedule(50))


def test_clone_model_then_compile():
    model = compiled("functional")
    clone = keras.models.clone_model(model)
    assert isinstance(clone, RDropModel)
    clone.compile("adam", builders.cross_entropy(), rdrop=model.rdrop)
    x, y = builders.data()
    assert clone.fit(x, y, verbose=0).history["consistency_loss"][0] > 0


def test_none_is_plain_training_bit_for_bit():
    x, y = builders.data()
    keras.utils.set_random_seed(5)
    plain = keras.Model(*builders.graph())
    keras.utils.set_random_seed(5)
    ours = builders.functional()
    for model in (plain, ours):
        keras.utils.set_random_seed(6)
        arguments = {"rdrop": None} if model is ours else {}
        model.compile(
            "adam", builders.cross_entropy(), metrics=["accuracy"], **arguments
        )
        model.history = model.fit(x, y, epochs=2, verbose=0).history
    assert plain.history == ours.history
    for a, b in zip(plain.weights, ours.weights):
        np.testing.assert_array_equal(np.array(a), np.array(b))


def test_changing_the_setting_changes_training():
    x, y = builders.data()
    model = compiled("functional", rdrop=None)
    history = model.fit(x, y, verbose=0).history
    assert sorted(history) == ["accuracy", "loss"]
    model.compile("sgd", builders.cross_entropy(), rdrop=1.0)
    assert "consistency_loss" in model.fit(x, y, verbose=0).history
    model.compile("sgd", builders.cross_entropy(), rdrop=False)
    assert "consistency_loss" not in model.fit(x, y, verbose=0).history


def test_public_names():
    assert sorted(rdrop_keras.__all__) == [
        "RDrop",
        "RDropMixin",
        "RDropModel",
        "callbacks",
        "convert_alpha",
        "distribution",
        "layers",
        "losses",
        "recipes",
    ]
    assert rdrop_keras.layers.__all__ == ["AdaptiveSoftmax", "Consistency"]
    for name in rdrop_keras.__all__:
        assert getattr(rdrop_keras, name).__doc__


@pytest.mark.parametrize(
    "name",
    ["", ".callbacks", ".distribution", ".layers", ".losses", ".recipes"],
)
def test_dir_shows_the_public_names(name):
    package = importlib.import_module(f"rdrop_keras{name}")
    shown = [each for each in dir(package) if not each.startswith("__")]
    assert shown == sorted(package.__all__)
    assert {"__all__", "__doc__", "__name__"} <= set(dir(package))
    assert "__version__" in dir(rdrop_keras)


@pytest.mark.parametrize("rdrop", [2.0, None])
@pytest.mark.parametrize("kind", builders.BUILDERS)
def test_the_legacy_format_is_refused(kind, rdrop, tmp_path):
    model = compiled(kind, rdrop=rdrop)
    model(builders.data()[0])
    for save in (model.save, lambda path: keras.saving.save_model(model, path)):
        with pytest.raises(ValueError, match=r"ends in `.keras`.*`.h5`"):
            save(tmp_path / "model.h5")
    trainer = RDropModel.from_model(keras.Model(*builders.graph()))
    trainer.compile("sgd", "mse", rdrop=rdrop)
    trainer.save(tmp_path / "plain.h5")
