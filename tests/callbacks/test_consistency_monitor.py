"""`ConsistencyMonitor` against NumPy, and that it leaves no trace."""

import csv
import pathlib

import builders
import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses
from rdrop_keras.callbacks import ConsistencyMonitor

KEYS = ["inference_gap", "submodel_agreement", "submodel_kl"]
FEATURES, OUTPUTS, TIME, ROWS = 6, 3, 4, 10
LOSSES = {
    "categorical": keras.losses.SparseCategoricalCrossentropy,
    "bernoulli": keras.losses.BinaryCrossentropy,
    "squared_error": keras.losses.MeanSquaredError,
}


def scripted_head(masks, padded=False, activation=None):
    """Input, dropout with given masks, one dense layer."""
    inputs = keras.Input((TIME, FEATURES) if padded else (FEATURES,))
    hidden = keras.layers.Masking()(inputs) if padded else inputs
    hidden = ScriptedDropout(masks)(hidden)
    outputs = keras.layers.Dense(OUTPUTS, activation=activation)(hidden)
    return keras.Model(inputs, outputs)


def held_out(rng, kind, padded):
    items = (ROWS, TIME) if padded else (ROWS,)
    x = rng.normal(size=(*items, FEATURES)).astype("float32")
    valid = np.ones(items, bool)
    if padded:
        valid = np.arange(TIME) < rng.integers(1, TIME + 1, (ROWS, 1))
        x[~valid] = 0
    if kind == "categorical":
        return x, rng.integers(0, OUTPUTS, items), valid
    y = rng.random((*items, OUTPUTS))
    if kind == "bernoulli":
        y = (y < 0.5).astype("float32")
    return x, y, valid


def decided_alike(kind, first, second):
    if kind == "categorical":
        return np.float64(first.argmax(-1) == second.argmax(-1))
    return np.mean((first > 0.5) == (second > 0.5), axis=-1)


def expected(kind, model, data, masks, batch_size):
    """Every number once more, batch by batch."""
    x, y, weights, valid = data
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    activation = reference.ACTIVATIONS[kind]
    rows, kl, gap, agreeing, total = 0, 0.0, 0.0, 0.0, 0.0
    for batch, start in enumerate(range(0, ROWS, batch_size)):
        part = slice(start, start + batch_size)
        w = None if weights is None else weights[part]
        full = activation(np.float64(x[part]) @ kernel + bias)
        subs = []
        for mask in masks[2 * batch : 2 * batch + 2]:
            if x.ndim == 3:
                mask = mask[:, None]
            hidden = np.float64(x[part]) * mask
            subs.append(activation(hidden @ kernel + bias))

        def reduce(values, part=part, w=w):
            return reference.reduce(values, w, valid[part])

        def task(output, part=part, reduce=reduce):
            return reduce(reference.task_loss(kind, y[part], output))

        count = len(x[part])
        rows += count
        kl += count * reduce(reference.pairwise(kind, subs))
        gap += count * (task(full) - np.mean([task(sub) for sub in subs]))
        if kind != "squared_error":
            weight = valid[part] * 1.0
            if w is not None:
                weight = weight * w
            agreeing += (weight * decided_alike(kind, *subs)).sum()
            total += weight.sum()
    results = {"submodel_kl": kl / rows, "inference_gap": abs(gap / rows)}
    if kind != "squared_error":
        results["submodel_agreement"] = agreeing / total
    return results


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", LOSSES)
def test_values_are_those_of_numpy(kind, padded, weighted, rng):
    if padded and weighted and keras.backend.backend() == "torch":
        pytest.skip("Keras multiplies weights by masks in place on PyTorch")
    x, y, valid = held_out(rng, kind, padded)
    # Keras weighs masked items by weights of their own rank.
    shape = (ROWS, 1) if padded else (ROWS,)
    weights = rng.random(shape).astype("float32") * 2 if weighted else None
    # Three batches, of which the last is smaller.
    masks = random_masks(rng, 6, 1, FEATURES)
    model = scripted_head(masks, padded)
    model.layers[-1].kernel.assign(rng.normal(size=(FEATURES, OUTPUTS)))
    options = {} if kind == "squared_error" else {"from_logits": True}
    model.compile("sgd", LOSSES[kind](**options), run_eagerly=weighted)
    data = (x, y) if weights is None else (x, y, weights)
    monitor = ConsistencyMonitor(data, batch_size=4)
    results = monitor.measure(model)
    wanted = expected(kind, model, (x, y, weights, valid), masks, 4)
    assert results.keys() == wanted.keys()
    for key, value in wanted.items():
        assert value > 1e-3
        np.testing.assert_allclose(results[key], value, rtol=1e-4, atol=1e-6)
    # The scripted masks, whose place is a variable, start over.
    assert monitor.measure(model) == results


@pytest.mark.parametrize("kind", ["categorical", "bernoulli"])
def test_probabilities_and_logits_agree(kind, rng):
    x, y, _ = held_out(rng, kind, padded=False)
    masks = random_masks(rng, 2, ROWS, FEATURES)
    results = []
    activations = {"categorical": "softmax", "bernoulli": "sigmoid"}
    for activation in (None, activations[kind]):
        model = scripted_head(masks, activation=activation)
        weights = np.linspace(-1, 1, FEATURES * OUTPUTS)
        model.layers[-1].kernel.assign(weights.reshape(FEATURES, OUTPUTS))
        model.compile("sgd", LOSSES[kind](from_logits=activation is None))
        results.append(ConsistencyMonitor((x, y)).measure(model))
    assert 0 < results[0]["submodel_agreement"] < 1
    for key in KEYS:
        np.testing.assert_allclose(results[0][key], results[1][key], rtol=1e-4)


def test_ignored_class_does_not_count(rng):
    x, y, valid = held_out(rng, "categorical", padded=True)
    masks = random_masks(rng, 2, ROWS, FEATURES)
    results = []
    for ignore_class, targets in [(None, y), (-1, np.where(valid, y, -1))]:
        model = scripted_head(masks, padded=True)
        model.layers[-1].kernel.assign(np.eye(FEATURES, OUTPUTS) * 3)
        loss = LOSSES["categorical"](
            from_logits=True, ignore_class=ignore_class
        )
        model.compile("sgd", loss)
        inputs = x
        if ignore_class is not None:
            # Nothing is padding any more, but for its class.
            inputs = x + np.where(valid, 0, 1e-3)[..., None]
        results.append(ConsistencyMonitor((inputs, targets)).measure(model))
    for key in KEYS:
        np.testing.assert_allclose(results[0][key], results[1][key], rtol=1e-4)


def two_outputs(rate=0.3, cls=keras.Model):
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dropout(rate)(inputs)
    outputs = {
        "a": keras.layers.Dense(OUTPUTS, name="a")(hidden),
        "b": keras.layers.Dense(2, name="b")(hidden),
    }
    return cls(inputs, outputs)


def test_several_outputs_with_loss_weights(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = {"a": np.arange(ROWS) % OUTPUTS, "b": rng.normal(size=(ROWS, 2))}
    results = {}
    for name, loss_weights in {
        "both": {"a": 0.5, "b": 2.0},
        "a": {"a": 1.0, "b": 0.0},
        "b": {"a": 0.0, "b": 1.0},
    }.items():
        keras.utils.set_random_seed(3)
        model = two_outputs()
        task_losses = {"a": builders.cross_entropy(), "b": "mse"}
        model.compile(
            "sgd", task_losses, loss_weights=loss_weights, run_eagerly=True
        )
        results[name] = ConsistencyMonitor((x, y)).measure(model)
    kl = {name: result["submodel_kl"] for name, result in results.items()}
    np.testing.assert_allclose(
        kl["both"], 0.5 * kl["a"] + 2 * kl["b"], rtol=1e-5
    )
    assert kl["a"] > 0 and kl["b"] > 0
    # Only the first has classes; loss weights have no part in a share.
    agreements = {r["submodel_agreement"] for r in results.values()}
    assert len(agreements) == 1 and 0 < agreements.pop() <= 1


class Restless(keras.layers.Layer):
    """Draws without a seed of its own, and changes a trainable weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs, training=None):
        if not training:
            return inputs * self.scale
        self.scale.assign(self.scale * 0.999)
        noise = keras.random.normal(keras.ops.shape(inputs), stddev=0.1)
        return inputs * self.scale + noise


def everything(cls):
    """Moving statistics, seeds, unseeded noise, several losses and metrics."""
    inputs = keras.Input((builders.FEATURES,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = Restless()(keras.layers.Dropout(0.3)(hidden))
    outputs = {
        "a": keras.layers.Dense(builders.CLASSES, name="a")(hidden),
        "b": keras.layers.Dense(1, name="b")(hidden),
    }
    return cls(inputs, outputs)


def targets(y):
    return {"a": y, "b": np.float32(y)[:, None]}


def compile_everything(model, **kwargs):
    model.compile(
        "adam",
        {"a": builders.cross_entropy(), "b": "mse"},
        metrics={"a": ["accuracy"], "b": ["mae"]},
        **kwargs,
    )


def state(model):
    variables = [
        *model.variables,
        *model.metrics_variables,
        *model.optimizer.variables,
    ]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def train(model, x, y, monitored):
    callbacks = []
    if monitored:
        held_out = (x[:16], keras.tree.map_structure(lambda a: a[:16], y))
        callbacks = [ConsistencyMonitor(held_out, batch_size=16)]
    history = model.fit(
        x, y, epochs=2, batch_size=16, callbacks=callbacks, verbose=0
    ).history
    seen = {key: history.pop(key, None) for key in KEYS}
    if monitored:
        assert all(len(values) == 2 for values in seen.values())
        assert min(seen["submodel_kl"]) > 0
    return history, state(model)


def check_same(first, second):
    assert first[0] == second[0]
    assert len(first[1]) == len(second[1])
    for a, b in zip(first[1], second[1]):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "cls, settings",
    [
        (keras.Model, {}),
        (RDropModel, {"rdrop": 2.0, "run_eagerly": True}),
    ],
)
@pytest.mark.only(
    "tensorflow", "torch", reason="Keras refuses unseeded draws on JAX"
)
def test_training_is_bit_for_bit_the_same(cls, settings):
    x, y = builders.data()
    runs = []
    for monitored in (False, True):
        # Before 3.13 Keras seeds only a new global generator.
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(5)
        model = everything(cls)
        compile_everything(model, **settings)
        runs.append(train(model, x, targets(y), monitored))
    check_same(*runs)


@pytest.mark.only("tensorflow", "jax", reason="PyTorch has no XLA here")
def test_training_under_xla_is_bit_for_bit_the_same():
    x, y = builders.data()
    runs = []
    for monitored in (False, True):
        keras.utils.set_random_seed(5)
        model = builders.functional()
        model.compile("sgd", builders.cross_entropy(), jit_compile=True)
        runs.append(train(model, x, y, monitored))
    check_same(*runs)


@pytest.mark.only(
    "tensorflow", "torch", reason="Keras refuses unseeded draws on JAX"
)
def test_measuring_leaves_every_variable_and_metric():
    x, y = builders.data()
    model = everything(keras.Model)
    compile_everything(model)
    monitor = ConsistencyMonitor((x, targets(y)), batch_size=16)
    assert len(model.metrics) == 2
    monitor.measure(model)
    # The first loss made a metric for each output.
    assert len(model.metrics) == 4
    assert not any(np.any(v) for v in model.metrics_variables)
    model.train_on_batch(x[:16], targets(y[:16]))
    before, metrics = state(model), model.get_metrics_result()
    monitor.measure(model)
    after = state(model)
    assert len(before) == len(after)
    for a, b in zip(before, after):
        np.testing.assert_array_equal(a, b)
    assert metrics["a_loss"] > 0
    assert {k: float(v) for k, v in model.get_metrics_result().items()} == {
        k: float(v) for k, v in metrics.items()
    }


def test_model_stays_as_it_was_after_an_error():
    x, y = builders.data()
    model = everything(keras.Model)
    compile_everything(model, run_eagerly=True)
    model.train_on_batch(x, targets(y))
    before = state(model)
    wrong = np.full_like(y, builders.CLASSES + 7)

    class Failing(keras.utils.PyDataset):
        num_batches = 2

        def __getitem__(self, index):
            if index:
                raise OSError("disk")
            return x, targets(wrong)

    with pytest.raises(Exception, match="disk|out of bounds"):
        ConsistencyMonitor(Failing()).measure(model)
    for a, b in zip(before, state(model)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
def test_model_without_dropout_agrees_exactly(settings):
    x, y = builders.data()
    model = keras.Model(*builders.graph(rate=0.0))
    model.compile("adam", builders.cross_entropy(), **settings)
    monitor = ConsistencyMonitor((x, y), batch_size=24)
    history = model.fit(x, y, callbacks=[monitor], verbose=0).history
    assert [history[key] for key in KEYS] == [[0.0], [1.0], [0.0]]


def test_call_without_training_is_measured_as_it_trains():
    class Deaf(keras.Model):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5)
            self.head = keras.layers.Dense(builders.CLASSES)

        def call(self, inputs):
            return self.head(self.dropout(inputs))

    x, y = builders.data()
    model = Deaf()
    model(x)
    model.compile("sgd", builders.cross_entropy())
    results = ConsistencyMonitor((x, y)).measure(model)
    assert [results[key] for key in KEYS] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("kind", ["plain", "trainer"])
def test_kinds_of_models(kind):
    x, y = builders.data()
    model = keras.Sequential(
        [keras.Input((builders.FEATURES,)), *builders.layer_stack()]
    )
    if kind == "trainer":
        model = RDropModel.from_model(model)
    model.compile("sgd", builders.cross_entropy(), metrics=["accuracy"])
    monitor = ConsistencyMonitor((x, y))
    history = model.fit(
        x, y, epochs=2, callbacks=[monitor], validation_data=(x, y), verbose=0
    ).history
    for key in KEYS:
        assert len(history[key]) == 2 and min(history[key]) > 0
    # `evaluate` is the model's own afterwards.
    logs = model.evaluate(x, y, verbose=0, return_dict=True)
    assert sorted(logs) == ["accuracy", "loss"]
    assert logs["loss"] == history["val_loss"][-1]


@pytest.mark.only(
    "tensorflow",
    "jax",
    reason="PyTorch's data loaders draw from the generator of dropout",
)
def test_kinds_of_data_agree():
    x, y = builders.data(48)

    class Batches(keras.utils.PyDataset):
        num_batches = 3

        def __getitem__(self, index):
            part = slice(16 * index, 16 * index + 16)
            return x[part], y[part]

    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(16)
    results = [
        ConsistencyMonitor(data, batch_size=16).measure(model)
        for data in ((x, y), dataset, Batches(), (x, y, np.ones(48)))
    ]
    assert results[0]["submodel_kl"] > 0
    for other in results[1:]:
        assert other == results[0]
    first = ConsistencyMonitor((x[:32], y[:32]), batch_size=16).measure(model)
    for data in ((x, y), dataset, dataset.repeat(), Batches()):
        monitor = ConsistencyMonitor(data, batch_size=16, steps=2)
        assert monitor.measure(model) == first
        assert monitor.measure(model) == first


@pytest.mark.only("tensorflow", "jax", reason="PyTorch runs eagerly")
def test_compiles_once_and_again_after_compile():
    traced = []

    class Counting(builders.Subclassed):
        def call(self, inputs, training=None):
            traced.append(training)
            return super().call(inputs, training=training)

    x, y = builders.data()
    model = Counting()
    model.compile("sgd", builders.cross_entropy())
    counts = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: counts.append(len(traced))
    )
    # 20 rows make a whole batch and a smaller one.
    monitor = ConsistencyMonitor((x[:20], y[:20]), batch_size=16)
    model.fit(x, y, epochs=4, callbacks=[monitor, count], verbose=0)
    assert len(set(counts)) == 1
    model.fit(x, y, callbacks=[monitor], verbose=0)
    assert len(traced) == counts[0]
    model.compile("sgd", keras.losses.CategoricalHinge(), rdrop=None)
    with pytest.raises(ValueError, match="categorical_hinge|Incompat"):
        monitor.measure(model)


def test_other_callbacks_see_the_logs(tmp_path):
    x, y = builders.data()
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True)
    stopping = keras.callbacks.EarlyStopping(
        "submodel_kl", mode="max", min_delta=1e9, patience=1
    )
    model.fit(
        x,
        y,
        epochs=4,
        callbacks=[
            ConsistencyMonitor((x, y), every=2),
            ConsistencyMonitor((x[:8], y[:8]), prefix="val_"),
            keras.callbacks.TensorBoard(tmp_path / "board"),
            keras.callbacks.CSVLogger(tmp_path / "log.csv"),
        ],
        verbose=0,
    )
    tags = {"train": set(), "validation": set()}
    for path in pathlib.Path(tmp_path / "board").rglob("*tfevents*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found = {value.tag for value in event.summary.value}
            tags[path.parent.name] |= found
    for key in KEYS:
        assert f"epoch_{key}" in tags["train"]
        assert f"epoch_{key}" in tags["validation"]
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for epoch, row in enumerate(rows):
        assert (row["submodel_kl"] == "NA") == (epoch % 2 == 1)
        assert float(row["val_submodel_kl"]) > 0
    history = model.fit(
        x,
        y,
        epochs=4,
        callbacks=[ConsistencyMonitor((x, y)), stopping],
        verbose=0,
    ).history
    assert len(history["submodel_kl"]) == 2


@pytest.mark.parametrize("every, measured", [(2, 3), (5, 1)])
def test_every(every, measured):
    x, y = builders.data()
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True)
    monitor = ConsistencyMonitor((x, y), every=every)
    history = model.fit(x, y, epochs=5, callbacks=[monitor], verbose=0).history
    assert len(history["loss"]) == 5
    assert [len(history[key]) for key in KEYS] == [measured] * 3


def test_two_monitors_need_prefixes():
    x, y = builders.data()
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy(), run_eagerly=True)
    callbacks = [ConsistencyMonitor((x, y)), ConsistencyMonitor((x, y))]
    with pytest.raises(ValueError, match="prefix="):
        model.fit(x, y, callbacks=callbacks, verbose=0)


def test_divergence_is_that_of_training():
    x, y = builders.data()
    y = np.eye(builders.CLASSES, dtype="float32")[y]
    settings = RDrop(divergence="squared_error")
    model = builders.functional()
    model.compile("sgd", "categorical_hinge", rdrop=settings)
    monitor = ConsistencyMonitor((x, y))
    assert sorted(monitor.measure(model)) == ["inference_gap", "submodel_kl"]
    model.compile("sgd", "categorical_hinge", rdrop=None)
    with pytest.raises(ValueError, match="ConsistencyMonitor.*divergence="):
        monitor.measure(model)
    monitor = ConsistencyMonitor((x, y), divergence="squared_error")
    assert monitor.measure(model)["submodel_kl"] > 0


@pytest.mark.only(
    "tensorflow",
    "jax",
    reason="PyTorch's data loaders draw from the generator of dropout",
)
def test_model_that_computes_its_loss_itself():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5)
            self.head = keras.layers.Dense(builders.CLASSES)

        def call(self, inputs, training=None):
            return self.head(self.dropout(inputs, training=training))

        def compute_loss(self, x, y, y_pred, sample_weight=None):
            return builders.cross_entropy()(y, y_pred, sample_weight)

    x, y = builders.data()
    weights = np.linspace(0, 1, len(x)).astype("float32")
    keras.utils.set_random_seed(2)
    own = Own()
    own(x)
    keras.utils.set_random_seed(2)
    compiled = Own()
    compiled(x)
    own.compile("sgd")
    compiled.compile("sgd", builders.cross_entropy())
    divergence = losses.CategoricalConsistency(from_logits=True)
    monitor = ConsistencyMonitor((x, y, weights), divergence=divergence)
    results = monitor.measure(own)
    assert sorted(results) == KEYS
    assert results == monitor.measure(compiled)
    with pytest.raises(ValueError, match="ConsistencyMonitor.*divergence="):
        ConsistencyMonitor((x, y)).measure(own)


@pytest.mark.only("tensorflow", reason="`evaluate` builds the optimizer")
def test_keras_hub_task_takes_raw_text():
    keras_hub = pytest.importorskip("keras_hub")
    pytest.importorskip("tensorflow_text")
    texts = ["the cat sat", "a dog ran far", "the dog sat", "a cat ran"]
    words = sorted({word for text in texts for word in text.split()})
    tokenizer = keras_hub.models.BertTokenizer(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    )
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        max_sequence_length=8,
        dropout=0.2,
    )
    model = keras_hub.models.BertTextClassifier(
        backbone,
        num_classes=3,
        preprocessor=keras_hub.models.BertTextClassifierPreprocessor(
            tokenizer, sequence_length=8
        ),
    )
    data = (np.array(texts), np.array([0, 1, 2, 0]))
    monitor = ConsistencyMonitor(data, batch_size=2)
    before = state(model)
    results = monitor.measure(model)
    assert sorted(results) == KEYS and results["submodel_kl"] > 0
    for a, b in zip(before, state(model)):
        np.testing.assert_array_equal(a, b)


def batches():
    yield from [builders.data()]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"data": None}, TypeError, "`data` to be a tuple"),
        ({"data": np.ones((2, 3))}, TypeError, "`data` to be a tuple"),
        ({"data": [np.ones(2), np.ones(2)]}, TypeError, "Received: list"),
        ({"data": ()}, ValueError, "a tuple of 0"),
        ({"data": batches()}, TypeError, "gone through once"),
        ({"data": (1, 2), "every": 0}, ValueError, "`every` to be at least 1"),
        ({"data": (1, 2), "every": 0.5}, TypeError, "`every` to be a whole"),
        ({"data": (1, 2), "batch_size": True}, TypeError, "`batch_size`"),
        ({"data": (1, 2), "steps": 0}, ValueError, "`steps` to be at least"),
        ({"data": (1, 2), "prefix": None}, TypeError, "`prefix`"),
        ({"data": (1, 2), "divergence": "kl"}, ValueError, "`divergence`"),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        ConsistencyMonitor(**arguments)


def test_data_without_end_needs_steps():
    x, y = builders.data()

    class Endless(keras.utils.PyDataset):
        num_batches = None

        def __getitem__(self, index):
            return x, y

    dataset = tf.data.Dataset.from_tensors((x, y)).repeat()
    for data in (dataset, Endless()):
        with pytest.raises(ValueError, match="`steps` with data that has no"):
            ConsistencyMonitor(data)
    model = keras.Model(*builders.graph())
    model.compile("sgd", builders.cross_entropy())
    assert sorted(ConsistencyMonitor(dataset, steps=1).measure(model)) == KEYS


def test_model_must_be_compiled_and_built():
    monitor = ConsistencyMonitor(builders.data())
    model = keras.Model(*builders.graph())
    with pytest.raises(ValueError, match="Expected a compiled model"):
        monitor.measure(model)
    with pytest.raises(ValueError, match="Expected a compiled model"):
        monitor.measure(None)
    model = keras.Sequential(builders.layer_stack())
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="not built"):
        monitor.measure(model)
