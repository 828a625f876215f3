"""What items of the consistency belong to, and what they weigh.

The reference is NumPy in float64, from the logits of passes whose masks the
test chooses.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import pairwise
from reference import sigmoid
from reference import softmax
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses

FEATURES, CLASSES = 5, 4
WEIGHTS = np.array([0, 0, 0, 0, 1, 1, 1, 3.0], "float32")


def with_head(rng, rows, units, time=None, activation=None, outputs=None):
    """A model of one dense layer behind scripted dropout, and its logits."""
    masks = random_masks(rng, 16, rows, FEATURES)
    inputs = keras.Input((FEATURES,) if time is None else (time, FEATURES))
    hidden = ScriptedDropout(masks)(inputs)
    head = keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer=keras.initializers.RandomNormal(0, 1, seed=3),
        name="z",
    )(hidden)
    shape = (rows, FEATURES) if time is None else (rows, time, FEATURES)
    x = rng.normal(size=shape).astype("float32")
    model = RDropModel(inputs, head if outputs is None else outputs(head))

    def logits():
        kernel, bias = (
            np.float64(w) for w in model.get_layer("z").get_weights()
        )
        each = masks[:2] if time is None else masks[:2, :, None]
        return [(np.float64(x) * mask) @ kernel + bias for mask in each]

    return model, x, logits


def logs_of(model, loss, x, y, weights=None, run_eagerly=False, **settings):
    model.compile(
        keras.optimizers.SGD(0.0),
        loss,
        rdrop=RDrop(2.0, **settings),
        run_eagerly=run_eagerly,
    )
    return model.train_on_batch(x, y, sample_weight=weights, return_dict=True)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_ctc_is_a_total_over_the_row(weights, rng):
    model, x, logits = with_head(rng, rows=8, units=6, time=8)
    y = np.tile([1, 2, 3], (8, 1))
    divergence = losses.CategoricalConsistency(from_logits=True)
    logs = logs_of(
        model, keras.losses.CTC(), x, y, weights, divergence=divergence
    )
    of_frames = pairwise("categorical", [softmax(z) for z in logits()])
    w = np.ones(8) if weights is None else weights
    np.testing.assert_allclose(
        logs["consistency_loss"], (of_frames.sum(1) * w).mean(), rtol=1e-4
    )
    tasks = [
        np.array(keras.losses.CTC(reduction=None)(y, z.astype("float32")))
        for z in logits()
    ]
    expected = np.mean([(task * w).mean() for task in tasks])
    np.testing.assert_allclose(logs["task_loss"], expected, rtol=1e-4)


class RowTotal(keras.losses.Loss):
    """A loss of one's own with one value for a row of tokens."""

    def call(self, y_true, y_pred):
        values = keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )
        return keras.ops.sum(values, axis=-1)


@pytest.mark.parametrize("time", [8, 3])
def test_a_loss_of_rows(time, rng):
    model, x, logits = with_head(rng, rows=8, units=CLASSES, time=time)
    y = rng.integers(0, CLASSES, (8, time))
    divergence = losses.CategoricalConsistency(from_logits=True)
    logs = logs_of(model, RowTotal(), x, y, WEIGHTS, divergence=divergence)
    values = pairwise("categorical", [softmax(z) for z in logits()])
    expected = (values.sum(axis=1) * WEIGHTS).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)


def test_a_loss_of_the_whole_batch(rng):
    """Its weights belong to rows; the consistency is a mean over items."""

    def loss(y_true, y_pred):
        return keras.ops.mean((y_true - y_pred) ** 2)

    model, x, logits = with_head(rng, rows=8, units=2, time=8)
    y = rng.normal(size=(8, 8, 2)).astype("float32")
    logs = logs_of(model, loss, x, y, WEIGHTS, divergence="squared_error")
    values = pairwise("squared_error", logits())
    expected = (values * WEIGHTS[:, None]).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)


REGRESSIONS = {
    "squared_error": keras.losses.MeanSquaredError,
    "bernoulli": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
}


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("time", [8, 5])
@pytest.mark.parametrize("kind", REGRESSIONS)
def test_series_without_a_last_axis(kind, time, weights, rng):
    """`(batch, time, 1)` beside targets `(batch, time)`: a value a row."""
    model, x, logits = with_head(rng, rows=8, units=1, time=time)
    y = rng.normal(size=(8, time)).astype("float32")
    if kind == "bernoulli":
        y = (y > 0).astype("float32")
    eager = weights is None
    logs = logs_of(model, REGRESSIONS[kind](), x, y, weights, eager)
    rows = [z[..., 0] for z in logits()]
    if kind == "bernoulli":
        rows = [sigmoid(z) for z in rows]
    w = np.ones(8) if weights is None else weights
    expected = (pairwise(kind, rows) * w).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)


@pytest.mark.parametrize("squeezed", ["targets", "output"])
def test_columns_and_rows(squeezed, rng):
    """`(batch,)` against `(batch, 1)`, either way round."""
    flat = keras.layers.Reshape(())
    outputs = None if squeezed == "targets" else flat
    model, x, logits = with_head(rng, rows=8, units=1, outputs=outputs)
    y = rng.normal(size=8).astype("float32")
    y = y if squeezed == "targets" else y[:, None]
    logs = logs_of(model, "mse", x, y, WEIGHTS)
    expected = (pairwise("squared_error", logits()) * WEIGHTS).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)


def test_class_weights(rng):
    model, x, logits = with_head(rng, rows=8, units=CLASSES)
    y = np.arange(8) % CLASSES
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss, rdrop=2.0)
    weights = {0: 0.0, 1: 1.0, 2: 2.0, 3: 0.5}
    history = model.fit(
        x, y, batch_size=8, shuffle=False, class_weight=weights, verbose=0
    ).history
    values = pairwise("categorical", [softmax(z) for z in logits()])
    expected = (values * [weights[c] for c in y]).mean()
    np.testing.assert_allclose(
        history["consistency_loss"][0], expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    "dtype, dataset, weight",
    [
        ("bool", True, 0.5),
        ("int32", False, 3.0),
        ("int64", True, 3.0),
        ("uint8", False, 0.5),
        ("float16", True, 3.0),
        ("float64", False, 0.5),
    ],
)
def test_weights_of_unlabeled_items_keep_their_value(
    dtype, dataset, weight, rng
):
    model, x, logits = with_head(rng, rows=8, units=CLASSES)
    y = rng.integers(0, CLASSES, 8)
    labeled = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rdrop = RDrop(2.0, unlabeled="zero_weight", unlabeled_weight=weight)
    model.compile(keras.optimizers.SGD(0.0), loss, rdrop=rdrop)
    batch = (x, y, labeled.astype(dtype))
    if dataset:
        data = tf.data.Dataset.from_tensors(batch)
        history = model.fit(data, shuffle=False, verbose=0).history
    else:
        history = model.fit(
            *batch[:2],
            sample_weight=batch[2],
            batch_size=8,
            shuffle=False,
            verbose=0,
        ).history
    values = pairwise("categorical", [softmax(z) for z in logits()])
    expected = (values * np.where(labeled == 0, weight, 1.0)).mean()
    np.testing.assert_allclose(
        history["consistency_loss"][0], expected, rtol=1e-4
    )


def test_ignored_class_that_the_dtype_of_labels_cannot_hold(rng):
    """255 is a label like any other beside `ignore_class=-1`."""
    model, x, logits = with_head(rng, rows=4, units=256)
    y = np.array([255, 0, 1, 255], "uint8")
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    for fused in (True, False):
        logs = logs_of(model, loss, x, y, fused=fused)
        model.layers[1].call_count.assign(0)
        probabilities = [softmax(z) for z in logits()]
        expected = pairwise("categorical", probabilities).mean()
        np.testing.assert_allclose(
            logs["consistency_loss"], expected, rtol=1e-4
        )


def twice(head):
    return {"a": head, "b": head}


def alias(head):
    return {"a": head, "b": keras.layers.Activation("linear")(head)}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("outputs", [twice, alias])
@pytest.mark.parametrize("order", ["ab", "ba"])
def test_two_losses_on_one_tensor(outputs, fused, order, rng):
    model, x, logits = with_head(rng, rows=6, units=CLASSES, outputs=outputs)
    each = {
        "a": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "b": keras.losses.MeanSquaredError(),
    }
    y = {"a": rng.integers(0, CLASSES, 6), "b": rng.normal(size=(6, CLASSES))}
    compiled = {name: each[name] for name in order}
    logs = logs_of(model, compiled, x, y, fused=fused, run_eagerly=not fused)
    probabilities = [softmax(z) for z in logits()]
    of_a = pairwise("categorical", probabilities).mean()
    of_b = pairwise("squared_error", logits()).mean()
    task = np.mean(
        [
            -np.log(p[np.arange(6), y["a"]]).mean() + ((z - y["b"]) ** 2).mean()
            for p, z in zip(probabilities, logits())
        ]
    )
    for name, expected in (
        ("a_consistency_loss", of_a),
        ("b_consistency_loss", of_b),
        ("consistency_loss", of_a + of_b),
        ("task_loss", task),
        ("loss", task + of_a + of_b),
    ):
        np.testing.assert_allclose(logs[name], expected, rtol=1e-4)


def test_several_losses_on_one_output(rng):
    model, x, logits = with_head(rng, rows=6, units=3)
    y = rng.normal(size=(6, 3)).astype("float32")
    logs = logs_of(model, ["mse", "mae"], x, y)
    expected = 2 * pairwise("squared_error", logits()).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)


def joint(y_true, y_pred):
    """One loss of two outputs."""
    return keras.ops.mean(
        (y_true["a"] - y_pred["a"]) ** 2 + y_pred["a"] * y_pred["b"], axis=-1
    )


class Joint(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return joint(y_true, y_pred)


@pytest.mark.parametrize("loss", [[joint], [Joint()]])
@pytest.mark.parametrize("fused", [True, False])
def test_one_loss_of_a_structure_of_outputs(loss, fused, rng):
    model, x, logits = with_head(rng, rows=6, units=2, outputs=twice)
    y = {name: rng.normal(size=(6, 2)).astype("float32") for name in "ab"}
    logs = logs_of(model, loss, x, y, divergence="squared_error", fused=fused)
    expected = 2 * pairwise("squared_error", logits()).mean()
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-4)
    assert "squared_error" in model.rdrop_plan()
    model.compile("sgd", loss, rdrop=2.0)
    for refused in (lambda: model.train_on_batch(x, y), model.rdrop_plan):
        with pytest.raises(ValueError, match="consistency can be inferred"):
            refused()


def test_names_that_are_taken(rng):
    """An output called `task` has a `task_loss` of its own, Keras's."""

    def heads(head):
        return {"task": head, "consistency": keras.layers.ReLU()(head)}

    model, x, _ = with_head(rng, rows=6, units=2, outputs=heads)
    y = {name: np.ones((6, 2)) for name in ("task", "consistency")}
    logs = logs_of(model, {"task": "mse", "consistency": "mae"}, x, y)
    total = logs["task_loss"] + logs["consistency_loss"]
    np.testing.assert_allclose(logs["rdrop_task_loss"], total, rtol=1e-5)
    np.testing.assert_allclose(
        logs["rdrop_consistency_loss"],
        logs["task_consistency_loss"] + logs["consistency_consistency_loss"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(
        logs["loss"],
        logs["rdrop_task_loss"] + logs["rdrop_consistency_loss"],
        rtol=1e-5,
    )


class OwnMetrics(RDropModel):
    """As in the example of `keras.Model.compute_loss`."""

    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.5, seed=1)
        self.head = keras.layers.Dense(1)
        self.loss_tracker = keras.metrics.Mean(name="loss")

    def call(self, inputs, training=None):
        return self.head(self.dropout(inputs, training=training))

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        loss = keras.ops.mean((y_pred - y) ** 2)
        self.loss_tracker.update_state(loss)
        return loss

    def reset_metrics(self):
        self.loss_tracker.reset_state()

    @property
    def metrics(self):
        return [self.loss_tracker]


def test_metrics_of_ones_own_are_left_alone(rng):
    x = rng.normal(size=(64, 10)).astype("float32")
    model = OwnMetrics()
    model.compile(
        keras.optimizers.SGD(0.0), rdrop=RDrop(4.0, divergence="squared_error")
    )
    history = model.fit(
        x, x[:, :1], batch_size=64, epochs=3, shuffle=False, verbose=0
    ).history
    losses_of_epochs = np.array(history["loss"])
    np.testing.assert_allclose(
        losses_of_epochs,
        np.array(history["task_loss"])
        + 2.0 * np.array(history["consistency_loss"]),
        rtol=1e-5,
    )
    # Each epoch is one batch: a mean that is not reset would fall behind.
    weights = [float(metric.count) for metric in model._rdrop_trackers.metrics]
    assert max(weights) == 64.0


def test_parts_of_the_loss(rng):
    model, x, _ = with_head(rng, rows=6, units=CLASSES, outputs=twice)
    y = {"a": rng.normal(size=(6, CLASSES)), "b": rng.normal(size=(6, CLASSES))}
    logs = logs_of(model, {"a": "mse", "b": "mae"}, x, y)
    model.layers[1].call_count.assign(0)
    loss, _, parts = model.compute_rdrop_loss(x, y, return_parts=True)
    np.testing.assert_allclose(loss, logs["loss"], rtol=1e-5)
    assert sorted(parts) == [
        "a_consistency_loss",
        "b_consistency_loss",
        "consistency_loss",
        "task_loss",
    ]
    for name, value in parts.items():
        np.testing.assert_allclose(value, logs[name], rtol=1e-5)


def test_scheduled_alpha_is_logged(rng):
    model, x, _ = with_head(rng, rows=6, units=2)
    y = np.ones((6, 2))
    alpha = keras.optimizers.schedules.PolynomialDecay(0.0, 10, 5.0)
    model.compile("sgd", "mse", rdrop=RDrop(alpha))
    for expected in (0.0, 0.5):
        logs = model.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(logs["alpha"], expected, rtol=1e-6)
    model, x, _ = with_head(rng, rows=6, units=2, outputs=twice)
    model.compile(
        "sgd", {"a": "mse", "b": "mse"}, rdrop=RDrop({"a": alpha, "b": 1.0})
    )
    logs = model.train_on_batch(x, {"a": y, "b": y}, return_dict=True)
    assert logs["a_alpha"] == 0.0 and "b_alpha" not in logs


def test_train_on_batch_returns_what_keras_does(rng):
    model, x, _ = with_head(rng, rows=6, units=2)
    plain = keras.Model(model.input, model.output)
    y = np.ones((6, 2))
    for metrics in (None, ["mae"]):
        results = []
        for each, options in ((plain, {}), (model, {"rdrop": 1.0})):
            each.compile("sgd", "mse", metrics=metrics, **options)
            results.append(each.train_on_batch(x, y))
            assert each.metrics_names == plain.metrics_names
        assert np.shape(results[0]) == np.shape(results[1])
        logs = model.train_on_batch(x, y, return_dict=True)
        assert {"loss", "task_loss", "consistency_loss"} <= set(logs)
