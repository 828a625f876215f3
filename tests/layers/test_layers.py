"""`layers.Consistency` in graphs that hold the branches themselves."""

import keras
import numpy as np
import pytest
import reference
from scripted import random_masks

from rdrop_keras import layers
from rdrop_keras import losses

BATCH, TIME, CLASSES = 4, 5, 3


def branches(rng, count=2):
    shape = (BATCH, TIME, CLASSES)
    return [rng.normal(size=shape).astype("float32") for _ in range(count)]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "squared_error"])
def test_adds_alpha_times_the_mean_divergence(kind, count, rng):
    raw = branches(rng, count)
    outputs = [
        reference.ACTIVATIONS[kind](np.float64(o)).astype("float32")
        for o in raw
    ]
    layer = layers.Consistency(3.0, kind)
    returned = layer(outputs, training=True)
    for given, got in zip(outputs, returned):
        np.testing.assert_array_equal(given, got)
    expected = 3.0 * reference.pairwise(kind, np.float64(outputs)).mean()
    assert len(layer.losses) == 1
    np.testing.assert_allclose(layer.losses[0], expected, rtol=2e-5)
    layer(outputs, training=False)
    assert layer.losses == []
    layer(outputs)
    assert layer.losses == []


def test_masks_and_sample_weight(rng):
    a, b = (keras.ops.convert_to_tensor(o) for o in branches(rng))
    mask_a, mask_b = rng.random((2, BATCH, TIME)) > 0.3
    a._keras_mask = keras.ops.convert_to_tensor(mask_a)
    b._keras_mask = keras.ops.convert_to_tensor(mask_b)
    weights = rng.random((BATCH, TIME)).astype("float32")
    layer = layers.Consistency(
        2.0, losses.CategoricalConsistency(from_logits=True)
    )
    returned = layer([a, b], sample_weight=weights, training=True)
    outputs = [reference.softmax(np.float64(o)) for o in (a, b)]
    expected = 2.0 * reference.reduce(
        reference.pairwise("categorical", outputs), weights, mask_a & mask_b
    )
    np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-5)
    np.testing.assert_array_equal(returned[0]._keras_mask, mask_a)
    np.testing.assert_array_equal(returned[1]._keras_mask, mask_b)


def two_branch_model(alpha, seed=3):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    head = keras.layers.Dense(CLASSES)
    outputs = [
        head(keras.layers.Dropout(0.4, seed=1)(inputs)),
        head(keras.layers.Dropout(0.4, seed=2)(inputs)),
    ]
    if alpha is not None:
        divergence = losses.CategoricalConsistency(from_logits=True)
        outputs = layers.Consistency(alpha, divergence, name="agree")(outputs)
    return keras.Model(inputs, outputs)


def test_a_functional_model_trains_saves_and_reloads(rng, tmp_path):
    x = rng.normal(size=(16, 6)).astype("float32")
    y = rng.integers(0, CLASSES, 16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    results = {}
    for alpha in (None, 0.0, 4.0):
        model = two_branch_model(alpha)
        model.compile("sgd", [loss, loss])
        results[alpha] = model.train_on_batch(x, [y, y])[0]
    np.testing.assert_allclose(results[0.0], results[None], rtol=1e-6)
    assert results[4.0] > results[0.0] + 0.1
    path = tmp_path / "model.keras"
    model.save(path)
    again = keras.saving.load_model(path)
    assert again.get_layer("agree").alpha == 4.0
    assert again.get_layer("agree").divergence.from_logits is True
    np.testing.assert_array_equal(
        again.predict(x, verbose=0)[0], model.predict(x, verbose=0)[0]
    )
    expected = np.mean(
        [np.float64(loss(y, o)) for o in model.predict(x, verbose=0)]
    )
    np.testing.assert_allclose(
        again.evaluate(x, [y, y], verbose=0)[0], 2 * expected, rtol=1e-5
    )


def test_half_precision_in_and_out_float32_between(rng):
    keras.config.set_dtype_policy("mixed_float16")
    a, b = (keras.ops.cast(o, "float16") for o in branches(rng))
    layer = layers.Consistency(1.0, "squared_error")
    returned = layer([a, b], training=True)
    assert keras.backend.standardize_dtype(returned[0].dtype) == "float16"
    loss = layer.losses[0]
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    expected = losses.SquaredErrorConsistency()(a, b)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ((-1.0, "categorical"), ValueError, "finite and >= 0"),
        ((1.0, "auto"), ValueError, "does not know the loss"),
        ((1.0, "kl"), ValueError, "one of"),
        (
            (keras.optimizers.schedules.CosineDecay(1.0, 2), "categorical"),
            TypeError,
            "does not know the optimizer",
        ),
    ],
)
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        layers.Consistency(*arguments)


def test_needs_two_branches(rng):
    layer = layers.Consistency(1.0, "categorical")
    for inputs in (branches(rng, 1), branches(rng, 1)[0]):
        with pytest.raises(ValueError, match="two or more branches"):
            layer(inputs, training=True)


def test_branches_of_one_encoder_equal_the_paper(rng):
    """Two heads with a loss each: Keras sums them, Eq. 4 as printed."""
    masks = random_masks(rng, 2, 8, 6)
    x = rng.normal(size=(8, 6)).astype("float32")
    y = rng.integers(0, CLASSES, 8)
    inputs = [keras.Input((6,)), keras.Input((6,))]
    head = keras.layers.Dense(CLASSES)
    divergence = losses.CategoricalConsistency(from_logits=True)
    outputs = layers.Consistency(5.0, divergence)([head(i) for i in inputs])
    model = keras.Model(inputs, outputs)
    kernel, bias = (np.float64(w) for w in model.get_weights())
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", [loss, loss])
    views = [x * m for m in masks]
    value = model.train_on_batch(views, [y, y])[0]
    raw = [np.float64(v) @ kernel + bias for v in views]
    expected = 2 * reference.objective("categorical", y, raw, 5.0)[0]
    np.testing.assert_allclose(value, expected, rtol=1e-5)
