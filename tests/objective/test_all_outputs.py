"""Loss, logs and one SGD step against NumPy in float64."""

import contextlib

import keras
import numpy as np
import pytest
import reference
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

BATCH, TIME, FEATURES, CLASSES = 6, 5, 4, 3
LEARNING_RATE = 0.5


def make_loss(kind, label_smoothing=0.0, reduction="sum_over_batch_size"):
    if kind == "categorical" and label_smoothing:
        return keras.losses.CategoricalCrossentropy(
            from_logits=True,
            label_smoothing=label_smoothing,
            reduction=reduction,
        )
    if kind == "categorical":
        return keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=reduction
        )
    if kind == "bernoulli":
        return keras.losses.BinaryCrossentropy(
            from_logits=True, reduction=reduction
        )
    return keras.losses.MeanSquaredError(reduction=reduction)


def make_targets(kind, shape, rng):
    if kind == "categorical":
        return rng.integers(0, CLASSES, shape)
    if kind == "bernoulli":
        return rng.integers(0, 2, (*shape, CLASSES)).astype("float32")
    return rng.normal(size=(*shape, CLASSES)).astype("float32")


class OwnLoss(RDropMixin, keras.Model):
    def compute_loss(self, *args, **kwargs):
        return super().compute_loss(*args, **kwargs)


def make_model(masks, sequence, cls=RDropModel):
    inputs = keras.Input((TIME, FEATURES) if sequence else (FEATURES,))
    hidden = keras.layers.Masking()(inputs) if sequence else inputs
    hidden = ScriptedDropout(masks)(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def numpy_outputs(x, masks, kernel, bias):
    shape = (len(x), *[1] * (x.ndim - 2), x.shape[-1])
    return [
        (np.float64(x) * mask.reshape(shape)) @ kernel + bias
        for mask in np.float64(masks)
    ]


MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "xla": {"jit_compile": True},
}


@pytest.mark.parametrize(
    "mode, alpha, sequence, weighted",
    [
        ("eager", 0.0, False, False),
        ("eager", 0.7, False, True),
        ("eager", 0.7, True, False),
        ("eager", 5.0, True, True),
        ("graph", 0.7, False, False),
        ("graph", 5.0, True, True),
        ("xla", 0.7, False, True),
        ("xla", 5.0, True, False),
    ],
)
@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "squared_error"])
def test_one_step(kind, mode, alpha, sequence, weighted, rng):
    shape = (BATCH, TIME) if sequence else (BATCH,)
    x = rng.normal(size=(*shape, FEATURES)).astype("float32")
    mask = None
    if sequence:
        mask = np.arange(TIME) < rng.integers(1, TIME + 1, (BATCH, 1))
        x[~mask] = 0.0
    y = make_targets(kind, shape, rng)
    weights = rng.random(shape).astype("float32") if weighted else None
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, sequence)
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE),
        make_loss(kind),
        rdrop=alpha,
        **MODES[mode],
    )
    logs = model.train_on_batch(x, y, weights, return_dict=True)

    def loss_of(kernel, bias):
        return reference.objective(
            kind, y, numpy_outputs(x, masks, kernel, bias), alpha, weights, mask
        )

    loss, task_loss, consistency = loss_of(kernel, bias)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["task_loss"], task_loss, rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], consistency, rtol=1e-5)
    assert consistency > 1e-3
    new_kernel = kernel - LEARNING_RATE * reference.gradient(
        lambda k: loss_of(k, bias)[0], kernel
    )
    new_bias = bias - LEARNING_RATE * reference.gradient(
        lambda b: loss_of(kernel, b)[0], bias
    )
    np.testing.assert_allclose(
        model.trainable_weights[0], new_kernel, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        model.trainable_weights[1], new_bias, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("own_loss", [False, True])
def test_masks_and_weights_in_fit(own_loss, fused, rng):
    """Where weights are tensors, on which Keras works in place on PyTorch."""
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    mask = np.arange(TIME) < rng.integers(1, TIME + 1, (BATCH, 1))
    x[~mask] = 0.0
    y = make_targets("categorical", (BATCH, TIME), rng)
    weights = rng.random((BATCH, TIME)).astype("float32")
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, True, OwnLoss if own_loss else RDropModel)
    expected = expected_logs(
        model, "categorical", x, y, masks, 5.0, weights=weights, mask=mask
    )
    variables = [np.float64(w) for w in model.trainable_weights]
    first, _ = numpy_outputs(x, masks, *variables)
    model.compile(
        keras.optimizers.SGD(0.1),
        make_loss("categorical"),
        rdrop=RDrop(5.0, "categorical", fused=fused),
        weighted_metrics=["accuracy"],
    )
    logs = model.fit(
        x, y, BATCH, sample_weight=weights, shuffle=False, verbose=0
    ).history
    counted = weights * mask
    right = (first.argmax(-1) == y) * counted
    for name, value in zip(
        ("loss", "task_loss", "consistency_loss", "accuracy"),
        (*expected, right.sum() / counted.sum()),
    ):
        np.testing.assert_allclose(logs[name], [value], rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("own_loss", [False, True])
def test_weights_of_the_caller_stay_as_they_were(own_loss, fused, rng):
    """Also while the first call builds the loss."""
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    x[0, 1:] = 0.0
    y = make_targets("categorical", (BATCH, TIME), rng)
    given = rng.random((BATCH, TIME)).astype("float32")
    weights = keras.ops.convert_to_tensor(given)
    masks = random_masks(rng, 1, BATCH, FEATURES).repeat(8, axis=0)
    model = make_model(masks, True, OwnLoss if own_loss else RDropModel)
    model.compile(
        "sgd",
        make_loss("categorical"),
        rdrop=RDrop(5.0, "categorical", fused=fused),
    )
    losses = [
        keras.ops.convert_to_numpy(model.compute_rdrop_loss(x, y, weights)[0])
        for _ in range(2)
    ]
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(weights, given)


def flat_problem(rng, kind="categorical", calls=2):
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = make_targets(kind, (BATCH,), rng)
    masks = random_masks(rng, calls, BATCH, FEATURES)
    return x, y, masks


def expected_logs(model, kind, x, y, masks, alpha, **kwargs):
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    outputs = numpy_outputs(x, masks, kernel, bias)
    return reference.objective(kind, y, outputs, alpha, **kwargs)


def test_label_smoothing_touches_the_task_loss_alone(rng):
    x, y, masks = flat_problem(rng)
    model = make_model(masks, sequence=False)
    expected = expected_logs(
        model, "categorical", x, y, masks, 2.0, label_smoothing=0.3
    )
    plain = expected_logs(model, "categorical", x, y, masks, 2.0)
    model.compile("sgd", make_loss("categorical", 0.3), rdrop=2.0)
    logs = model.train_on_batch(x, np.eye(CLASSES)[y], return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], plain[2], rtol=1e-5)
    assert abs(expected[1] - plain[1]) > 1e-3


@pytest.mark.parametrize("column", [False, True])
def test_ignored_class_is_dropped_from_the_consistency_too(column, rng):
    x, y, masks = flat_problem(rng)
    y[[1, 4]] = -1
    model = make_model(masks, sequence=False)
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    outputs = numpy_outputs(x, masks, kernel, bias)
    valid = y != -1
    expected = reference.objective(
        "categorical", y[valid], [o[valid] for o in outputs], 2.0
    )
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    model.compile("sgd", loss, rdrop=2.0)
    targets = y[:, None] if column else y
    logs = model.train_on_batch(x, targets, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], expected[2], rtol=1e-5)


@pytest.mark.parametrize(
    "reduction, scale",
    [("sum", BATCH), ("mean", 1), ("sum_over_batch_size", 1)],
)
def test_reduction_of_the_task_loss_is_followed(reduction, scale, rng):
    x, y, masks = flat_problem(rng)
    model = make_model(masks, sequence=False)
    expected = expected_logs(model, "categorical", x, y, masks, 2.0)
    model.compile(
        "sgd", make_loss("categorical", reduction=reduction), rdrop=2.0
    )
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0] * scale, rtol=1e-5)
    np.testing.assert_allclose(
        logs["consistency_loss"], expected[2] * scale, rtol=1e-5
    )


def test_mean_with_sample_weight_divides_by_the_weights(rng):
    x, y, masks = flat_problem(rng)
    weights = rng.random(BATCH).astype("float32") + 0.1
    model = make_model(masks, sequence=False)
    expected = expected_logs(
        model, "categorical", x, y, masks, 2.0, weights=weights
    )
    model.compile(
        "sgd",
        make_loss("categorical", reduction="mean_with_sample_weight"),
        rdrop=2.0,
    )
    logs = model.train_on_batch(x, y, weights, return_dict=True)
    scale = BATCH / weights.sum()
    np.testing.assert_allclose(logs["loss"], expected[0] * scale, rtol=1e-5)
    np.testing.assert_allclose(
        logs["consistency_loss"], expected[2] * scale, rtol=1e-5
    )


def test_class_weight(rng):
    x, y, masks = flat_problem(rng)
    class_weight = {0: 1.0, 1: 3.0, 2: 0.25}
    weights = np.array([class_weight[label] for label in y])
    model = make_model(masks, sequence=False)
    expected = expected_logs(
        model, "categorical", x, y, masks, 2.0, weights=weights
    )
    model.compile("sgd", make_loss("categorical"), rdrop=2.0)
    history = model.fit(
        x, y, class_weight=class_weight, shuffle=False, verbose=0
    ).history
    np.testing.assert_allclose(history["loss"], [expected[0]], rtol=1e-5)
    np.testing.assert_allclose(
        history["consistency_loss"], [expected[2]], rtol=1e-5
    )


def test_softmax_and_sigmoid_heads_equal_logits(rng):
    for kind, activation in (
        ("categorical", "softmax"),
        ("bernoulli", "sigmoid"),
    ):
        x, y, masks = flat_problem(rng, kind)
        inputs = keras.Input((FEATURES,))
        hidden = ScriptedDropout(masks)(inputs)
        outputs = keras.layers.Dense(CLASSES, activation=activation)(hidden)
        model = RDropModel(inputs, outputs)
        expected = expected_logs(model, kind, x, y, masks, 2.0)
        name = {
            "categorical": "sparse_categorical_crossentropy",
            "bernoulli": "binary_crossentropy",
        }[kind]
        model.compile("sgd", name, rdrop=2.0)
        logs = model.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)


def test_alpha_schedule_is_read_at_the_optimizer_step(rng):
    x, y, masks = flat_problem(rng, calls=8)
    model = make_model(masks, sequence=False)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.0, 3, 6.0)
    model.compile(
        keras.optimizers.SGD(0.1), make_loss("categorical"), rdrop=schedule
    )
    for step, alpha in enumerate([0.0, 2.0, 4.0, 6.0]):
        now = masks[2 * step : 2 * step + 2]
        expected = expected_logs(model, "categorical", x, y, now, alpha)
        model.reset_metrics()
        logs = model.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)
        np.testing.assert_allclose(
            logs["loss"] - logs["task_loss"],
            alpha / 2 * expected[2],
            rtol=1e-4,
            atol=1e-6,
        )
    # One compiled step served all four.
    assert model.rdrop.alpha is schedule


def test_explicit_divergence_beside_a_custom_loss(rng):
    x, y, masks = flat_problem(rng)

    def own_loss(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )

    from rdrop_keras.losses import CategoricalConsistency

    model = make_model(masks, sequence=False)
    expected = expected_logs(model, "categorical", x, y, masks, 2.0)
    model.compile(
        "sgd",
        own_loss,
        rdrop=RDrop(2.0, divergence=CategoricalConsistency(from_logits=True)),
    )
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)


def two_headed(masks, structure):
    inputs = keras.Input((FEATURES,), name="x")
    hidden = ScriptedDropout(masks)(inputs)
    label = keras.layers.Dense(CLASSES, name="label")(hidden)
    value = keras.layers.Dense(CLASSES, name="value")(hidden)
    outputs = {
        "dict": {"value": value, "label": label},
        "list": [label, value],
        "tuple": (label, value),
        "nested": {"a": [label], "b": {"c": value}},
    }[structure]
    return RDropModel(inputs, outputs)


@pytest.mark.parametrize("nested_weights", [False, True])
@pytest.mark.parametrize("structure", ["dict", "list", "tuple", "nested"])
def test_several_outputs(structure, nested_weights, rng):
    x, labels, masks = flat_problem(rng)
    values = make_targets("squared_error", (BATCH,), rng)
    model = two_headed(masks, structure)

    def pack(label, value):
        return {
            "dict": {"label": label, "value": value},
            "list": [label, value],
            "tuple": (label, value),
            "nested": {"a": [label], "b": {"c": value}},
        }[structure]

    by_name = {
        layer.name: [np.float64(w) for w in layer.get_weights()]
        for layer in model.layers
    }
    label_weights = rng.random(BATCH).astype("float32")
    value_weights = (
        rng.random(BATCH).astype("float32") if nested_weights else label_weights
    )
    weights = (
        pack(label_weights, value_weights) if nested_weights else label_weights
    )
    expected = [
        reference.objective(
            kind, y, numpy_outputs(x, masks, *by_name[name]), 3.0, weights=w
        )
        for kind, y, name, w in (
            ("categorical", labels, "label", label_weights),
            ("squared_error", values, "value", value_weights),
        )
    ]
    model.compile(
        "sgd",
        loss=pack(make_loss("categorical"), "mse"),
        loss_weights=pack(0.5, 2.0),
        rdrop=3.0,
        run_eagerly=nested_weights,
    )
    logs = model.train_on_batch(
        x, pack(labels, values), weights, return_dict=True
    )
    for index, key in enumerate(("loss", "task_loss", "consistency_loss")):
        total = 0.5 * expected[0][index] + 2.0 * expected[1][index]
        np.testing.assert_allclose(logs[key], total, rtol=1e-5)


def test_output_without_a_loss_has_no_consistency(rng):
    x, y, masks = flat_problem(rng)
    model = two_headed(masks, "list")
    kernel, bias = model.get_layer("label").get_weights()
    expected = reference.objective(
        "categorical", y, numpy_outputs(x, masks, kernel, bias), 3.0
    )
    model.compile("sgd", loss=[make_loss("categorical"), None], rdrop=3.0)
    warns = pytest.warns(UserWarning, match="Gradients do not exist")
    # JAX has a gradient of zero for such weights.
    none = keras.backend.backend() == "jax"
    with contextlib.nullcontext() if none else warns:
        logs = model.train_on_batch(x, [y, y], return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)


def test_all_positions_masked(rng):
    masks = random_masks(rng, 2, BATCH, FEATURES)
    model = make_model(masks, sequence=True)
    before = [np.array(w) for w in model.trainable_weights]
    model.compile("sgd", make_loss("categorical"), rdrop=5.0)
    x = np.zeros((BATCH, TIME, FEATURES), "float32")
    y = make_targets("categorical", (BATCH, TIME), rng)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["loss"] == logs["consistency_loss"] == 0.0
    for old, new in zip(before, model.trainable_weights):
        np.testing.assert_array_equal(old, new)


def test_batch_of_one(rng):
    x, y, masks = flat_problem(rng)
    masks = random_masks(rng, 2, 1, FEATURES)
    model = make_model(masks, sequence=False)
    expected = expected_logs(model, "categorical", x[:1], y[:1], masks, 5.0)
    model.compile("sgd", make_loss("categorical"), rdrop=5.0)
    logs = model.train_on_batch(x[:1], y[:1], return_dict=True)
    np.testing.assert_allclose(logs["loss"], expected[0], rtol=1e-5)


def test_masked_classes_train(rng):
    """`-inf` logits, as decoders that forbid tokens make them."""
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dropout(0.4)(inputs)
    logits = keras.layers.Dense(CLASSES)(hidden)
    forbidden = keras.layers.Lambda(
        lambda z: keras.ops.concatenate(
            [z, keras.ops.full_like(z[:, :2], -np.inf)], -1
        )
    )(logits)
    model = RDropModel(inputs, forbidden)
    model.compile("sgd", make_loss("categorical"), rdrop=5.0)
    x, y, _ = flat_problem(rng)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert np.isfinite(logs["loss"])
    assert logs["consistency_loss"] > 1e-3
    assert all(np.isfinite(w).all() for w in model.get_weights())
