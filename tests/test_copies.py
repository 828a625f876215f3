"""Copies, pickles and clones train as the model they are made of."""

import copy
import pickle

import builders
import keras
import numpy as np
import pytest
from test_from_model import PLAIN

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

SETTINGS = RDrop(
    keras.optimizers.schedules.PolynomialDecay(0.0, 9, 4.0), "categorical"
)
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


def trained(kind, rdrop=SETTINGS):
    """A model of ours, or a trainer of a plain model, after some steps."""
    if kind in builders.BUILDERS:
        model = builders.BUILDERS[kind]()
    else:
        model = RDropModel.from_model(PLAIN[kind.removeprefix("trainer of ")]())
    model.compile(
        "adam",
        builders.cross_entropy(),
        metrics=["accuracy"],
        run_eagerly=True,
        rdrop=rdrop,
    )
    model.fit(*builders.data(), verbose=0)
    return model


KINDS = [*builders.BUILDERS, *(f"trainer of {kind}" for kind in PLAIN)]


def losses(model):
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.seed_generator.state.assign([3, 0])
    x, y = builders.data()
    return model.fit(
        x, y, epochs=2, shuffle=False, verbose=0, callbacks=[builders.Seeded()]
    ).history


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_goes_on_as_the_model_does(kind, how):
    model = trained(kind)
    other = COPIES[how](model)
    assert type(other) is type(model)
    assert other.rdrop.get_config() == model.rdrop.get_config()
    assert int(other.optimizer.iterations) == int(model.optimizer.iterations)
    assert other.weights[0] is not model.weights[0]
    before = [np.array(weight) for weight in other.trainable_weights]
    expected = losses(model)
    # Training the one leaves the other as it was.
    for weight, value in zip(other.trainable_weights, before):
        np.testing.assert_array_equal(weight, value)
    assert losses(other) == expected
    assert "consistency_loss" in expected


@pytest.mark.parametrize("how", COPIES)
def test_copies_of_trainers_without_rdrop(how):
    for trainer in (
        RDropModel.from_model(PLAIN["functional"]()),
        trained("trainer of functional", rdrop=None),
    ):
        other = COPIES[how](trainer)
        assert type(other) is type(trainer)
        assert other.compiled == trainer.compiled
        assert other.rdrop is None
    assert sorted(other.fit(*builders.data(), verbose=0).history) == [
        "accuracy",
        "loss",
    ]


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_a_model_and_its_trainer_are_copied_together(how):
    plain = PLAIN["functional"]()
    trainer = RDropModel.from_model(plain)
    plain, trainer = COPIES[how]([plain, trainer])
    assert not isinstance(plain, RDropMixin)
    assert plain.weights[0] is trainer.weights[0]
    # The plain model alone is copied as a plain model.
    assert not isinstance(COPIES[how](plain), RDropMixin)


CLONED = ["functional", "subclassed", "trainer of functional"]
PLAIN_CLONES = [
    "mixed_sequential",
    "own_graph",
    "trainer of built_sequential",
    "trainer of subclassed",
]


@pytest.mark.parametrize("kind", CLONED)
def test_a_clone_trains_with_the_same_settings(kind):
    model = trained(kind)
    clone = keras.models.clone_model(model)
    assert type(clone) is type(model)
    assert clone.rdrop.get_config() == SETTINGS.get_config()
    assert int(clone.optimizer.iterations) == 0
    clone.build((None, builders.FEATURES))
    clone.set_weights(model.get_weights())
    model.optimizer.iterations.assign(0)
    for variable in model.optimizer.variables[2:]:
        variable.assign(np.zeros(variable.shape))
    assert losses(clone) == losses(model)


@pytest.mark.parametrize("kind", PLAIN_CLONES)
def test_a_clone_of_a_plain_class_says_that_it_trains_plain(kind):
    with pytest.warns(UserWarning, match="trains without R-Drop"):
        clone = keras.models.clone_model(trained(kind))
    history = clone.fit(*builders.data(), verbose=0).history
    assert sorted(history) == ["accuracy", "loss"]


@pytest.mark.parametrize("kind", [*CLONED, *PLAIN_CLONES])
def test_a_clone_without_rdrop_trains_plain(kind):
    clone = keras.models.clone_model(trained(kind, rdrop=None))
    history = clone.fit(*builders.data(), verbose=0).history
    assert sorted(history) == ["accuracy", "loss"]


@pytest.mark.parametrize("kind", ["mixed_sequential", "trainer of functional"])
def test_a_model_of_the_same_config_is_compiled_anew(kind):
    model = trained(kind)
    other = type(model).from_config(model.get_config())
    assert type(other) is type(model)
    other.compile("sgd", builders.cross_entropy(), rdrop=2.0)
    history = other.fit(*builders.data(), verbose=0).history
    assert "consistency_loss" in history


@pytest.mark.parametrize("recursive", [False, True])
def test_clone_function_input_tensors_and_nested_models(recursive):
    inner = trained("functional")
    inputs = keras.Input((builders.FEATURES,))
    outer = RDropModel(inputs, inner(keras.layers.Dropout(0.2)(inputs)))
    outer.compile("sgd", builders.cross_entropy(), rdrop=3.0)
    seen = []

    def same(layer):
        seen.append(layer.name)
        return type(layer).from_config(layer.get_config())

    clone = keras.models.clone_model(
        outer,
        input_tensors=keras.Input((builders.FEATURES,)),
        clone_function=same,
        recursive=recursive,
    )
    assert seen
    assert clone.rdrop == RDrop(3.0)
    assert type(clone.layers[-1]) is type(inner)
    assert (clone.layers[-1].rdrop is not None) == recursive
    history = clone.fit(*builders.data(), verbose=0).history
    assert "consistency_loss" in history


def test_the_json_of_a_trainer_is_the_plain_model():
    trainer = trained("trainer of functional")
    again = keras.models.model_from_json(trainer.to_json())
    assert type(again) is type(PLAIN["functional"]())


@pytest.mark.parametrize("kind", ["functional", "trainer of functional"])
def test_scikit_learn_wrappers(kind):
    base = pytest.importorskip("sklearn.base")
    x, y = builders.data()
    model = trained(kind)
    model.compile("sgd", keras.losses.CategoricalCrossentropy(True), rdrop=2.0)
    wrapper = keras.wrappers.SKLearnClassifier(model)
    for each in (wrapper, base.clone(wrapper)):
        history = each.fit(x, y, verbose=0).history_.history
        assert "consistency_loss" in history
    sequential = trained("mixed_sequential")
    sequential.compile("sgd", keras.losses.CategoricalCrossentropy(True))
    with pytest.warns(UserWarning, match="scikit-learn"):
        keras.wrappers.SKLearnClassifier(sequential).fit(x, y, verbose=0)
