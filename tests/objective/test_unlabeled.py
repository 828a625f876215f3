"""Semi-supervised R-Drop: items that train on the consistency alone."""

import keras
import numpy as np
import pytest
import reference
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel

BATCH, TIME, FEATURES, CLASSES = 6, 5, 4, 3
LEARNING_RATE, ALPHA = 0.5, 2.0
UNLABELED = -7


def make_model(masks, sequence):
    inputs = keras.Input((TIME, FEATURES) if sequence else (FEATURES,))
    hidden = keras.layers.Masking()(inputs) if sequence else inputs
    hidden = ScriptedDropout(masks)(hidden)
    return RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))


def numpy_outputs(x, masks, kernel, bias):
    shape = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    return [
        reference.softmax((np.float64(x) * mask.reshape(shape)) @ kernel + bias)
        for mask in np.float64(masks)
    ]


def cross_entropy(**kwargs):
    return keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, **kwargs
    )


def step(model, loss, rdrop, x, y, weights=None, run_eagerly=False):
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE),
        loss,
        rdrop=rdrop,
        run_eagerly=run_eagerly,
    )
    return model.train_on_batch(x, y, weights, return_dict=True)


def check(model, logs, before, expected):
    """Compares logs, and the weights after one SGD step, with NumPy."""
    kernel, bias = (np.float64(w) for w in before)
    loss, task, consistency = expected(kernel, bias)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["task_loss"], task, rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], consistency, rtol=1e-5)
    gradient = reference.gradient(lambda k: expected(k, bias)[0], kernel)
    np.testing.assert_allclose(
        model.trainable_weights[0],
        kernel - LEARNING_RATE * gradient,
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("unlabeled_weight", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("sequence", [False, True])
def test_class_id(sequence, unlabeled_weight, weighted, rng):
    shape = (BATCH, TIME) if sequence else (BATCH,)
    x = rng.normal(size=(*shape, FEATURES)).astype("float32")
    valid = np.ones(shape, bool)
    if sequence:
        valid = np.arange(TIME) < rng.integers(2, TIME + 1, (BATCH, 1))
        x[~valid] = 0.0
    y = rng.integers(0, CLASSES, shape)
    labeled = rng.random(shape) < 0.5
    weights = rng.random(shape).astype("float32") if weighted else None
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, sequence)
    before = [w.numpy() for w in model.trainable_weights]
    logs = step(
        model,
        cross_entropy(ignore_class=UNLABELED),
        RDrop(ALPHA, unlabeled=UNLABELED, unlabeled_weight=unlabeled_weight),
        x,
        np.where(labeled, y, UNLABELED),
        weights,
        run_eagerly=unlabeled_weight != 0.25,
    )
    base = np.ones(shape) if weights is None else np.float64(weights)
    in_consistency = base * np.where(labeled, 1.0, unlabeled_weight)

    def expected(kernel, bias):
        outputs = numpy_outputs(x, masks, kernel, bias)
        tasks = [
            reference.reduce(
                reference.task_loss("categorical", y, o), base, labeled & valid
            )
            for o in outputs
        ]
        consistency = reference.reduce(
            reference.pairwise("categorical", outputs), in_consistency, valid
        )
        return (
            (sum(tasks) + ALPHA * consistency) / 2,
            np.mean(tasks),
            consistency,
        )

    check(model, logs, before, expected)


@pytest.mark.only("tensorflow", "jax", reason="plain Keras fails on PyTorch")
def test_row_weights_broadcast_over_positions(rng):
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, (BATCH, TIME))
    y[:, 1] = UNLABELED
    rows = rng.random((BATCH, 1)).astype("float32")
    masks = random_masks(rng, 4, BATCH, FEATURES)

    def consistency(weights):
        model = make_model(masks, sequence=True)
        for weight, value in zip(model.trainable_weights, initial):
            weight.assign(value)
        rdrop = RDrop(ALPHA, unlabeled=UNLABELED, unlabeled_weight=0.3)
        logs = step(
            model, cross_entropy(ignore_class=UNLABELED), rdrop, x, y, weights
        )
        return logs["consistency_loss"]

    initial = [
        rng.normal(size=w.shape)
        for w in make_model(masks, sequence=True).trainable_weights
    ]
    np.testing.assert_allclose(
        consistency(rows),
        consistency(np.repeat(rows, TIME, axis=1)),
        rtol=1e-6,
    )


@pytest.mark.parametrize("unlabeled_weight", [1.0, 0.25])
@pytest.mark.parametrize("kind", ["categorical", "squared_error"])
def test_zero_weight(kind, unlabeled_weight, rng):
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, BATCH)
    loss = cross_entropy()
    if kind == "squared_error":
        y = rng.normal(size=(BATCH, CLASSES)).astype("float32")
        loss = keras.losses.MeanSquaredError()
    weights = np.array([1.0, 0.0, 0.5, 0.0, 2.0, 0.0], "float32")
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, sequence=False)
    before = [w.numpy() for w in model.trainable_weights]
    rdrop = RDrop(
        ALPHA, unlabeled="zero_weight", unlabeled_weight=unlabeled_weight
    )
    logs = step(model, loss, rdrop, x, y, weights)
    in_consistency = np.where(weights == 0, unlabeled_weight, weights)

    def expected(kernel, bias):
        outputs = [
            (np.float64(x) * mask) @ kernel + bias for mask in np.float64(masks)
        ]
        if kind == "categorical":
            outputs = [reference.softmax(o) for o in outputs]
        tasks = [
            reference.reduce(reference.task_loss(kind, y, o), weights)
            for o in outputs
        ]
        consistency = reference.reduce(
            reference.pairwise(kind, outputs), in_consistency
        )
        return (
            (sum(tasks) + ALPHA * consistency) / 2,
            np.mean(tasks),
            consistency,
        )

    check(model, logs, before, expected)


def test_labels_of_unlabeled_rows_have_no_part(rng):
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, BATCH)
    weights = np.array([1, 0, 1, 0, 1, 0], "float32")
    masks = random_masks(rng, 2, BATCH, FEATURES)
    initial = make_model(masks, sequence=False).get_weights()
    kernels = []
    for labels in (y, np.where(weights == 0, (y + 1) % CLASSES, y)):
        model = make_model(masks, sequence=False)
        model.set_weights(initial)
        rdrop = RDrop(ALPHA, unlabeled="zero_weight")
        step(model, cross_entropy(), rdrop, x, labels, weights)
        kernels.append(model.trainable_weights[0].numpy())
    np.testing.assert_array_equal(*kernels)
    # And yet they train the model.
    model = make_model(masks, sequence=False)
    model.set_weights(initial)
    step(model, cross_entropy(), RDrop(ALPHA), x, y, weights)
    assert np.abs(kernels[0] - model.trainable_weights[0].numpy()).max() > 1e-3


def test_without_labels_at_all_only_consistency_trains(rng):
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, sequence=False)
    before = model.trainable_weights[0].numpy()
    loss = cross_entropy(ignore_class=UNLABELED)
    rdrop = RDrop(ALPHA, unlabeled=UNLABELED)
    logs = step(model, loss, rdrop, x, np.full(BATCH, UNLABELED))
    assert logs["task_loss"] == 0.0
    np.testing.assert_allclose(
        logs["loss"], ALPHA / 2 * logs["consistency_loss"], rtol=1e-6
    )
    assert np.abs(model.trainable_weights[0].numpy() - before).max() > 1e-4


def test_model_with_a_loss_of_its_own(rng):
    class OwnLoss(RDropModel):
        def __init__(self):
            super().__init__()
            self.drop = ScriptedDropout(masks)
            self.head = keras.layers.Dense(CLASSES)

        def call(self, inputs, training=None):
            return self.head(self.drop(inputs, training=training))

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return keras.ops.mean(keras.ops.square(y_pred))

    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    weights = np.array([1, 0, 2, 0, 0, 3], "float32")
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = OwnLoss()
    model(x)
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    rdrop = RDrop(
        1.0,
        divergence="squared_error",
        unlabeled="zero_weight",
        unlabeled_weight=0.5,
    )
    model.compile("sgd", rdrop=rdrop)
    logs = model.train_on_batch(x, x, weights, return_dict=True)
    outputs = [
        (np.float64(x) * mask) @ kernel + bias for mask in np.float64(masks)
    ]
    expected = reference.reduce(
        reference.pairwise("squared_error", outputs),
        np.where(weights == 0, 0.5, weights),
    )
    np.testing.assert_allclose(logs["consistency_loss"], expected, rtol=1e-5)


def plain_model():
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dropout(0.3)(inputs)
    return RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))


@pytest.mark.parametrize(
    "loss", [cross_entropy(), cross_entropy(ignore_class=-1), "mse", None]
)
def test_a_loss_that_would_learn_the_class_id_is_refused(loss):
    model = plain_model()
    model.compile("sgd", "mse", rdrop=0.5)
    divergence = "categorical"
    with pytest.raises(ValueError, match="Expected a loss that ignores class"):
        model.compile(
            "sgd",
            loss,
            rdrop=RDrop(divergence=divergence, unlabeled=UNLABELED),
        )
    assert model.loss == "mse"
    assert model.rdrop == RDrop(0.5)


def test_a_loss_known_only_in_training_is_refused_there(rng):
    class Late(RDropModel):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(CLASSES)
            self.drop = keras.layers.Dropout(0.3)

        def call(self, inputs, training=None):
            return self.head(self.drop(inputs, training=training))

        def compile(self, optimizer="sgd", loss="auto", **kwargs):
            loss = cross_entropy() if loss == "auto" else loss
            super().compile(optimizer, loss, **kwargs)

    class Auto(Late):
        """As KerasHub's tasks do, chooses its loss in `compile`."""

    model = Auto()
    with pytest.raises(ValueError, match="Expected a loss that ignores class"):
        model.compile(rdrop=RDrop(unlabeled=UNLABELED))
        model.fit(np.ones((4, FEATURES)), np.ones(4), verbose=0)


@pytest.mark.parametrize(
    "kwargs, error, message",
    [
        ({"unlabeled": "zero"}, ValueError, "'zero_weight'"),
        ({"unlabeled": 1.5}, TypeError, "whole number"),
        ({"unlabeled": True}, TypeError, "whole number"),
        ({"unlabeled_weight": 0.5}, ValueError, "Expected `unlabeled` with"),
        (
            {"unlabeled": -1, "unlabeled_weight": -0.1},
            ValueError,
            "finite and >= 0",
        ),
        (
            {"unlabeled": -1, "unlabeled_weight": "a"},
            TypeError,
            "Expected `unlabeled_weight` to be a number",
        ),
    ],
)
def test_settings_are_checked(kwargs, error, message):
    with pytest.raises(error, match=message):
        RDrop(1.0, **kwargs)


def test_settings_survive_saving(tmp_path):
    for rdrop in (
        RDrop(unlabeled=UNLABELED, unlabeled_weight=0.5),
        RDrop(unlabeled="zero_weight"),
    ):
        model = plain_model()
        model.compile("sgd", cross_entropy(ignore_class=UNLABELED), rdrop=rdrop)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert again.rdrop == rdrop


def test_plan_says_so():
    model = plain_model()
    loss = cross_entropy(ignore_class=-1)
    model.compile("sgd", loss, rdrop=RDrop(unlabeled=-1, unlabeled_weight=0.5))
    assert model.rdrop_plan().endswith(
        "; unlabeled items (class -1) by consistency alone, at weight 0.5"
    )
    model.compile("sgd", loss, rdrop=RDrop(unlabeled="zero_weight"))
    assert model.rdrop_plan().endswith(
        "; unlabeled items (sample weight 0) by consistency alone"
    )
