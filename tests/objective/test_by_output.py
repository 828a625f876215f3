"""Models with several outputs, each with its own alpha and divergence."""

import keras
import numpy as np
import pytest
import reference
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.callbacks import ConsistencyMonitor

BATCH, FEATURES, CLASSES = 6, 4, 3
LEARNING_RATE = 0.5
LOSS_WEIGHTS = {"label": 0.5, "value": 2.0}


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def graph(masks):
    inputs = keras.Input((FEATURES,))
    hidden = ScriptedDropout(masks)(inputs)
    label = keras.layers.Dense(CLASSES, name="label")(hidden)
    value = keras.layers.Dense(CLASSES, name="value")(hidden)
    return inputs, label, value


class SubclassedWithDict(RDropModel):
    def __init__(self, masks):
        super().__init__()
        self.drop = ScriptedDropout(masks)
        self.label = keras.layers.Dense(CLASSES)
        self.value = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        hidden = self.drop(inputs, training=training)
        return {"label": self.label(hidden), "value": self.value(hidden)}


def dict_outputs(masks):
    inputs, label, value = graph(masks)
    return RDropModel(inputs, {"label": label, "value": value})


def list_outputs(masks):
    inputs, label, value = graph(masks)
    return RDropModel(inputs, [label, value])


BUILDERS = {
    "dict": dict_outputs,
    "list": list_outputs,
    "subclassed": SubclassedWithDict,
}


def as_list(values):
    return [values["label"], values["value"]]


@pytest.fixture
def problem(rng):
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = {
        "label": rng.integers(0, CLASSES, BATCH),
        "value": rng.normal(size=(BATCH, CLASSES)).astype("float32"),
    }
    return x, y, random_masks(rng, 2, BATCH, FEATURES)


@pytest.mark.parametrize("loss_weights", [None, LOSS_WEIGHTS])
@pytest.mark.parametrize("kind", list(BUILDERS))
def test_alpha_of_each_output(kind, loss_weights, problem):
    x, y, masks = problem
    alpha = {"label": 3.0, "value": 0.25}
    model = BUILDERS[kind](masks)
    model(x)
    weights = [np.float64(w) for w in model.trainable_weights]
    losses = {"label": cross_entropy(), "value": "mse"}
    in_lists = kind == "list"
    given_weights = loss_weights
    if in_lists and loss_weights is not None:
        given_weights = as_list(loss_weights)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE),
        as_list(losses) if in_lists else losses,
        loss_weights=given_weights,
        rdrop=RDrop(alpha),
    )
    logs = model.train_on_batch(
        x, as_list(y) if in_lists else y, return_dict=True
    )
    share = loss_weights or {"label": 1.0, "value": 1.0}

    def expected(weights):
        kernels = dict(zip(("label", "value"), (weights[:2], weights[2:])))
        loss = consistency = 0.0
        for name, distance in (
            ("label", "categorical"),
            ("value", "squared_error"),
        ):
            kernel, bias = kernels[name]
            outputs = [
                (np.float64(x) * mask) @ kernel + bias
                for mask in np.float64(masks)
            ]
            each, _, part = reference.objective(
                distance, y[name], outputs, alpha[name]
            )
            loss += share[name] * each
            consistency += share[name] * part
        return loss, consistency

    loss, consistency = expected(weights)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], consistency, rtol=1e-5)
    for index, weight in enumerate(model.trainable_weights):

        def loss_of(value, index=index):
            changed = [*weights[:index], value, *weights[index + 1 :]]
            return expected(changed)[0]

        gradient = reference.gradient(loss_of, weights[index])
        np.testing.assert_allclose(
            weight,
            weights[index] - LEARNING_RATE * gradient,
            rtol=1e-5,
            atol=1e-6,
        )


def test_schedules_by_output(problem):
    x, y, masks = problem
    masks = np.concatenate([masks, masks])
    decay = keras.optimizers.schedules.PiecewiseConstantDecay([0], [2.0, 0.0])
    model = dict_outputs(masks)
    model.compile(
        keras.optimizers.SGD(0.0),
        {"label": cross_entropy(), "value": "mse"},
        rdrop=RDrop({"label": decay, "value": 1.0}),
    )
    first = model.train_on_batch(x, y, return_dict=True)
    first_gap = first["loss"] - first["task_loss"]
    model.reset_metrics()
    second = model.train_on_batch(x, y, return_dict=True)
    second_gap = second["loss"] - second["task_loss"]
    kernel, bias = (np.float64(w) for w in model.trainable_weights[:2])
    outputs = [
        reference.softmax((np.float64(x) * mask) @ kernel + bias)
        for mask in np.float64(masks[:2])
    ]
    label = reference.pairwise("categorical", outputs).mean()
    np.testing.assert_allclose(first_gap - second_gap, label, rtol=1e-4)


def test_divergence_of_each_output(problem):
    x, y, masks = problem
    y = {"label": y["value"], "value": y["value"]}
    model = dict_outputs(masks)
    kernel, bias = (np.float64(w) for w in model.trainable_weights[:2])
    others = [np.float64(w) for w in model.trainable_weights[2:]]
    model.compile(
        "sgd",
        {"label": "cosine_similarity", "value": "mse"},
        rdrop=RDrop(
            1.0,
            # `value` is not named, and follows its loss.
            divergence={"label": "squared_error"},
        ),
    )
    logs = model.train_on_batch(x, y, return_dict=True)
    expected = sum(
        reference.pairwise(
            "squared_error",
            [(np.float64(x) * m) @ k + b for m in np.float64(masks)],
        ).mean()
        for k, b in ((kernel, bias), others)
    )
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-5)
    assert model.rdrop_plan() == (
        "2 passes as separate calls; alpha 1; squared_error_consistency, "
        "beside cosine_similarity; squared_error_consistency, beside "
        "mean_squared_error"
    )


def test_monitor_takes_the_divergences_of_the_model(problem):
    x, y, masks = problem
    y = {"label": y["value"], "value": y["value"]}
    model = dict_outputs(np.tile(masks, (4, 1, 1)))
    model.compile(
        "sgd",
        {"label": "cosine_similarity", "value": "mse"},
        rdrop=RDrop(1.0, divergence={"label": "squared_error"}),
    )
    measured = ConsistencyMonitor((x, y)).measure(model)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(
        measured["submodel_kl"], logs["consistency_loss"], rtol=1e-5
    )


@pytest.mark.parametrize(
    "rdrop, message",
    [
        (RDrop({"label": 1.0}), "Missing: 'value'"),
        (RDrop({"label": 1.0, "value": 1.0, "x": 2.0}), "There is no 'x'"),
        (RDrop(1.0, divergence={"lable": "auto"}), "There is no 'lable'"),
    ],
)
@pytest.mark.parametrize("kind", ["dict", "list"])
def test_wrong_names_are_refused(kind, rdrop, message, problem):
    x, y, masks = problem
    model = BUILDERS[kind](masks)
    before = model.get_weights()
    losses = {"label": cross_entropy(), "value": "mse"}
    if kind == "dict":
        with pytest.raises(ValueError, match=message):
            model.compile("sgd", losses, rdrop=rdrop)
        assert not model.compiled
    else:
        # The names of a list's outputs are Keras's, known with the first batch.
        model.compile("sgd", as_list(losses), rdrop=rdrop)
        with pytest.raises(ValueError, match=message):
            model.fit(x, as_list(y), verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("setting", ["alpha", "divergence"])
def test_a_model_with_a_loss_of_its_own_names_no_outputs(setting, problem):
    value = {"alpha": {"label": 1.0}, "divergence": {"label": "bernoulli"}}
    model = dict_outputs(problem[2])
    with pytest.raises(ValueError, match=f"Expected one `{setting}` for all"):
        model.compile("sgd", rdrop=RDrop(**{setting: value[setting]}))


@pytest.mark.parametrize(
    "alpha", [{}, {0: 1.0}, {"a": {"b": 1.0}}, {"a": -1.0}, {"a": None}]
)
def test_dicts_are_checked(alpha):
    with pytest.raises((TypeError, ValueError), match="Expected `alpha`"):
        RDrop(alpha)
    with pytest.raises((TypeError, ValueError), match="Expected `divergence`"):
        RDrop(1.0, divergence=alpha)


def test_settings_survive_saving(tmp_path):
    decay = keras.optimizers.schedules.CosineDecay(1.0, 10)
    rdrop = RDrop(
        {"label": decay, "value": 0.5}, divergence={"label": "categorical"}
    )
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dropout(0.2)(inputs)
    model = RDropModel(
        inputs,
        {
            "label": keras.layers.Dense(CLASSES)(hidden),
            "value": keras.layers.Dense(CLASSES)(hidden),
        },
    )
    model.compile(
        "sgd", {"label": cross_entropy(), "value": "mse"}, rdrop=rdrop
    )
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras").rdrop
    assert again.alpha["value"] == 0.5
    assert again.alpha["label"].get_config() == decay.get_config()
    assert again.divergence == {"label": "categorical"}


def test_plan_names_each_alpha():
    model = dict_outputs(np.ones((1, 1, FEATURES)))
    decay = keras.optimizers.schedules.CosineDecay(1.0, 10)
    model.compile(
        "sgd",
        {"label": cross_entropy(), "value": "mse"},
        rdrop=RDrop({"label": 5, "value": decay}),
    )
    assert "; alpha label: 5, value: by CosineDecay; " in model.rdrop_plan()
