"""All passes of a step start from the same state, and only seeds move on.

A step leaves the state that its first pass made, as one plain pass would.
"""

import keras
import numpy as np
import pytest
import reference
from builders import Stateful
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.callbacks import ConsistencyMonitor

ROWS, TIME, FEATURES, CLASSES = 4, 3, 5, 3
# Plain Keras on JAX drops the updates of a layer's metrics; R-Drop keeps them.
DROPS_METRICS = keras.backend.backend() == "jax"
WAYS = [{}, {"every": 2}, {"num_passes": 3}, {"passes": "concat"}]


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def stateful_model(cls, rate=0.0, **kwargs):
    inputs = keras.Input(batch_shape=(ROWS, TIME, FEATURES))
    hidden = keras.layers.LSTM(
        6, stateful=True, name="lstm", return_sequences=True
    )(inputs)
    hidden = keras.layers.Flatten()(hidden)
    hidden = keras.layers.SpectralNormalization(keras.layers.Dense(8))(hidden)
    hidden = keras.layers.BatchNormalization(momentum=0.9)(hidden)
    hidden = keras.layers.Dropout(rate)(hidden)
    hidden = Stateful(name="stateful")(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden), **kwargs)


def state_of(model):
    variables = list(model.variables)
    if not DROPS_METRICS:
        variables += model.get_layer("stateful").total.variables
    return [np.array(v) for v in variables if "seed" not in v.path]


def batches(rng, steps=3):
    for _ in range(steps):
        x = rng.normal(size=(ROWS, TIME, FEATURES)).astype("float32")
        yield x, rng.integers(0, CLASSES, ROWS)


# R-Drop can: it assigns after the backward pass.
NO_STATE = "plain Keras cannot differentiate a stateful layer on PyTorch"


@pytest.mark.only("tensorflow", "jax", reason=NO_STATE)
@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=str)
@pytest.mark.parametrize("settings", WAYS[:3], ids=str)
def test_state_is_that_of_plain_training(settings, options, rng):
    """Without dropout all passes are the plain one, state and all."""
    data = list(batches(rng))
    states = []
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(1)
        model = stateful_model(cls)
        arguments = dict(options)
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(
                2.0, check_dropout=False, passes="calls", **settings
            )
        model.compile(keras.optimizers.SGD(0.1), cross_entropy(), **arguments)
        logs = [model.train_on_batch(x, y) for x, y in data]
        logs = np.array(logs)
        states.append([*state_of(model), logs[:, 0] if DROPS_METRICS else logs])
    for plain, found in zip(*states):
        np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.only(
    "tensorflow", "torch", reason="Keras drops the state of an RNN on JAX"
)
def test_each_pass_starts_from_the_state_that_the_step_found(rng):
    masks = random_masks(rng, 4, ROWS, FEATURES)
    x = rng.normal(size=(ROWS, TIME, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    inputs = keras.Input(batch_shape=(ROWS, TIME, FEATURES))
    hidden = ScriptedDropout(masks)(inputs)
    lstm = keras.layers.LSTM(6, stateful=True)
    head = keras.layers.Dense(CLASSES)
    model = RDropModel(inputs, head(lstm(hidden)))
    model.compile(keras.optimizers.SGD(0.0), cross_entropy(), rdrop=2.0)
    logs = model.train_on_batch(x, y, return_dict=True)
    found = [np.array(state) for state in lstm.states]
    outputs, states = [], []
    for mask in masks[:2]:
        lstm.reset_states()
        output = keras.ops.convert_to_numpy(head(lstm(x * mask[:, None])))
        outputs.append(np.float64(output))
        states.append([np.array(state) for state in lstm.states])
    expected = reference.pairwise(
        "categorical", [reference.softmax(z) for z in outputs]
    ).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)
    for state, of_first in zip(found, states[0]):
        np.testing.assert_allclose(state, of_first, rtol=1e-6)


def test_state_alone_does_not_make_passes_differ(rng):
    model = stateful_model(RDropModel)
    model.compile("sgd", cross_entropy(), rdrop=1.0)
    x, y = next(batches(rng))
    before = state_of(model)
    with pytest.raises(ValueError, match="Received identical outputs"):
        model.train_on_batch(x, y)
    for old, new in zip(before, state_of(model)):
        np.testing.assert_array_equal(old, new)


def test_dropout_with_state(rng):
    """Seeds move on; everything else is as after one pass of the step."""
    model = stateful_model(RDropModel, rate=0.5)
    model.compile(keras.optimizers.SGD(0.0), cross_entropy(), rdrop=1.0)
    for x, y in batches(rng, steps=4):
        logs = model.train_on_batch(x, y, return_dict=True)
        assert logs["consistency_loss"] > 1e-4
    assert int(model.get_layer("stateful").count) == 4
    seeds = [np.array(v) for v in model.variables if "seed" in v.path]
    # The second number counts the draws, one a pass; the LSTM draws none. On
    # PyTorch dropout draws from a global generator.
    draws = 0 if keras.backend.backend() == "torch" else 8
    assert sorted(seed[1] for seed in seeds) == [0, draws]


class Counting(RDropModel):
    """Counts and sums in its own `compute_loss`."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(1)
        self.seen = keras.metrics.Sum(name="seen")
        self.count = self.add_weight(
            shape=(), dtype="int32", trainable=False, name="count"
        )

    def call(self, inputs, training=None):
        return self.head(self.dropout(inputs, training=training))

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        self.seen.update_state(keras.ops.shape(x)[0])
        self.count.assign_add(1)
        return keras.ops.mean((y_pred - y) ** 2)


@pytest.mark.parametrize("settings", [{}, {"passes": "concat"}], ids=str)
def test_what_compute_loss_assigns_belongs_to_its_pass(settings, rng):
    model = Counting()
    rdrop = RDrop(1.0, "squared_error", **settings)
    model.compile("sgd", rdrop=rdrop)
    x = rng.normal(size=(6, 4))
    history = model.fit(x, x[:, :1], epochs=2, batch_size=3, verbose=0)
    assert int(model.count) == 4
    # Metrics of its own report on all passes.
    assert history.history["seen"] == [12.0, 12.0]


def test_every_pass_may_advance_moving_statistics(rng):
    x, y = next(batches(rng))
    values = {}
    for setting in ("first_pass", "every_pass"):
        keras.utils.set_random_seed(1)
        model = stateful_model(RDropModel)
        rdrop = RDrop(
            1.0, moving_statistics=setting, passes="calls", check_dropout=False
        )
        model.compile(keras.optimizers.SGD(0.0), cross_entropy(), rdrop=rdrop)
        model.train_on_batch(x, y)
        norm = next(
            layer
            for layer in model.layers
            if isinstance(layer, keras.layers.BatchNormalization)
        )
        values[setting] = np.array(norm.moving_variance)
    once = (values["first_pass"] - 0.9) / 0.1
    np.testing.assert_allclose(
        values["every_pass"], 0.81 + 0.19 * once, rtol=1e-4
    )


@pytest.mark.only("tensorflow", "jax", reason=NO_STATE)
def test_monitor_leaves_the_state_as_it_was(rng):
    model = stateful_model(keras.Model, rate=0.5)
    model.compile(keras.optimizers.SGD(0.1), cross_entropy())
    x, y = next(batches(rng))
    model.train_on_batch(x, y)
    before = state_of(model)
    monitor = ConsistencyMonitor((x, y), batch_size=ROWS)
    results = monitor.measure(model)
    assert results["submodel_kl"] > 0
    for old, new in zip(before, state_of(model)):
        np.testing.assert_array_equal(old, new)


@pytest.mark.only("torch", reason="a layer of PyTorch's own")
@pytest.mark.parametrize("settings", WAYS[:3], ids=str)
def test_buffers_of_torch_modules_are_those_of_plain_training(settings, rng):
    import torch

    data = list(batches(rng))
    found = []
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(1)
        norm = torch.nn.BatchNorm1d(8)
        inputs = keras.Input((TIME, FEATURES))
        hidden = keras.layers.Dense(8)(keras.layers.Flatten()(inputs))
        hidden = keras.layers.TorchModuleWrapper(norm, output_shape=(None, 8))(
            hidden
        )
        model = cls(inputs, keras.layers.Dense(CLASSES)(hidden))
        arguments = {}
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(2.0, check_dropout=False, **settings)
        model.compile(keras.optimizers.SGD(0.1), cross_entropy(), **arguments)
        for x, y in data:
            model.train_on_batch(x, y)
        state = [buffer.numpy().copy() for buffer in norm.buffers()]
        ConsistencyMonitor(data[0]).measure(model)
        for buffer, before in zip(norm.buffers(), state):
            np.testing.assert_array_equal(buffer.numpy(), before)
        found.append(state)
    for plain, ours in zip(*found):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.only("torch", reason="a layer of PyTorch's own")
def test_the_check_of_the_first_batch_leaves_buffers_alone(rng):
    import torch

    norm = torch.nn.BatchNorm1d(FEATURES)
    inputs = keras.Input((FEATURES,))
    wrapped = keras.layers.TorchModuleWrapper(
        norm, output_shape=(None, FEATURES)
    )
    model = RDropModel(inputs, keras.layers.Dense(FEATURES)(wrapped(inputs)))
    model.compile("sgd", "mse", rdrop=1.0)
    x = rng.normal(size=(8, FEATURES)).astype("float32")
    with pytest.raises(ValueError, match="identical outputs"):
        model.fit(x, x, verbose=0)
    assert int(norm.num_batches_tracked) == 0
    np.testing.assert_array_equal(norm.running_mean.numpy(), 0.0)
