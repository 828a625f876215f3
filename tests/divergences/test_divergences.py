import itertools

import autodiff
import keras
import numpy as np
import pytest
import reference

from rdrop_keras import losses

FUNCTIONS = {
    "categorical": losses.categorical_consistency,
    "bernoulli": losses.bernoulli_consistency,
    "squared_error": losses.squared_error_consistency,
}
CLASSES = {
    "categorical": losses.CategoricalConsistency,
    "bernoulli": losses.BernoulliConsistency,
    "squared_error": losses.SquaredErrorConsistency,
}
KINDS = list(FUNCTIONS)
SHAPES = [(4, 3), (1, 2), (2, 5, 7), (2, 3, 4, 6)]


def options(kind, from_logits=True):
    return {} if kind == "squared_error" else {"from_logits": from_logits}


def draw(rng, passes, shape, scale=2.0):
    return [
        rng.normal(size=shape).astype("float32") * scale for _ in range(passes)
    ]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("passes", [2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_sum_over_pairs(kind, passes, shape, rng):
    raw = draw(rng, passes, shape)
    expected = reference.pairwise(
        kind, [reference.ACTIVATIONS[kind](np.float64(o)) for o in raw]
    )
    actual = FUNCTIONS[kind](raw, **options(kind))
    assert actual.shape == expected.shape
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["categorical", "bernoulli"])
def test_probabilities_equal_logits(kind, rng):
    raw = draw(rng, 2, (6, 4))
    probabilities = [
        reference.ACTIVATIONS[kind](np.float64(o)).astype("float32")
        for o in raw
    ]
    np.testing.assert_allclose(
        FUNCTIONS[kind](probabilities, from_logits=False),
        FUNCTIONS[kind](raw, from_logits=True),
        rtol=2e-5,
    )


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_gradient_reaches_every_pass(kind, passes, rng):
    raw = draw(rng, passes, (3, 4), scale=1.0)
    gradients = autodiff.gradients(
        lambda *z: keras.ops.sum(FUNCTIONS[kind](z, **options(kind))), *raw
    )

    def total(stacked):
        return reference.pairwise(
            kind, [reference.ACTIVATIONS[kind](o) for o in stacked]
        ).sum()

    expected = reference.gradient(total, np.stack(raw))
    np.testing.assert_allclose(
        np.stack(gradients), expected, rtol=1e-4, atol=1e-6
    )
    assert all(np.abs(g).max() > 1e-3 for g in gradients)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_when_equal_and_symmetric_and_positive(kind, rng):
    a, b, c = draw(rng, 3, (5, 4))
    function = FUNCTIONS[kind]
    np.testing.assert_array_equal(function([a, a], **options(kind)), 0)
    np.testing.assert_array_equal(function([a, a, a], **options(kind)), 0)
    for permutation in itertools.permutations([a, b, c]):
        np.testing.assert_allclose(
            function(list(permutation), **options(kind)),
            function([a, b, c], **options(kind)),
            rtol=1e-5,
        )
    assert np.all(np.asarray(function([a, b], **options(kind))) > 0)


def test_categorical_ignores_a_shift_of_logits(rng):
    a, b = draw(rng, 2, (5, 4))
    np.testing.assert_allclose(
        losses.categorical_consistency([a + 100, b - 100], from_logits=True),
        losses.categorical_consistency([a, b], from_logits=True),
        rtol=1e-4,
    )


def test_categorical_class_axis(rng):
    a, b = draw(rng, 2, (2, 5, 3))
    np.testing.assert_allclose(
        losses.categorical_consistency(
            [np.moveaxis(a, -1, 1), np.moveaxis(b, -1, 1)],
            from_logits=True,
            axis=1,
        ),
        losses.categorical_consistency([a, b], from_logits=True),
        rtol=1e-6,
    )


def test_value_does_not_saturate():
    a, b = [[100.0, 0.0]], [[0.0, 100.0]]
    value = losses.categorical_consistency([a, b], from_logits=True)
    np.testing.assert_allclose(value, [100.0], rtol=1e-6)
    value = losses.bernoulli_consistency(
        [[[80.0]], [[-80.0]]], from_logits=True
    )
    np.testing.assert_allclose(value, [80.0], rtol=1e-6)


def test_small_values_keep_their_digits(rng):
    logits = rng.normal(size=(8, 50))
    other = logits + rng.normal(size=logits.shape) * 1e-3
    expected = reference.pairwise(
        "categorical", [reference.softmax(logits), reference.softmax(other)]
    )
    assert expected.max() < 1e-5
    actual = losses.categorical_consistency(
        [logits.astype("float32"), other.astype("float32")], from_logits=True
    )
    np.testing.assert_allclose(actual, expected, rtol=2e-3)


@pytest.mark.parametrize("passes", [2, 3])
def test_masked_classes_contribute_nothing(passes, rng):
    raw = draw(rng, passes, (4, 5))
    masked = [np.concatenate([o, np.full((4, 2), -np.inf)], -1) for o in raw]
    masked = [o.astype("float32") for o in masked]
    value = losses.categorical_consistency(masked, from_logits=True)
    np.testing.assert_allclose(
        value,
        losses.categorical_consistency(raw, from_logits=True),
        rtol=1e-5,
    )
    gradients = autodiff.gradients(
        lambda *z: keras.ops.sum(
            losses.categorical_consistency(z, from_logits=True)
        ),
        *masked,
    )
    gradients = np.stack(gradients)
    assert np.isfinite(gradients).all()
    np.testing.assert_array_equal(gradients[..., 5:], 0)


def test_class_masked_in_one_pass_only_is_infinite():
    a, b = [[0.0, 0.0]], [[0.0, -np.inf]]
    value = losses.categorical_consistency([a, b], from_logits=True)
    assert np.isinf(value[0])
    assert value[0] > 0


def test_certain_probabilities():
    p, q = [[1.0, 0.0]], [[0.0, 1.0]]
    np.testing.assert_array_equal(losses.categorical_consistency([p, p]), [0])
    np.testing.assert_allclose(
        losses.categorical_consistency([p, q]), [87.336544], rtol=1e-5
    )
    np.testing.assert_allclose(
        losses.bernoulli_consistency([[[1.0]], [[0.0]]]), [87.336544], rtol=1e-5
    )


@pytest.mark.parametrize("size", [1e4, 1e6])
def test_huge_logits(size):
    a = np.array([[size, 0.0], [size, -size]], "float32")
    b = np.array([[0.0, size], [size, -size]], "float32")
    value = losses.categorical_consistency([a, b], from_logits=True)
    np.testing.assert_allclose(value, [size, 0.0], rtol=1e-6)


def test_nan_stays_in_its_row(rng):
    a, b = draw(rng, 2, (3, 4))
    a[1, 2] = np.nan
    value = np.asarray(losses.categorical_consistency([a, b], from_logits=True))
    np.testing.assert_array_equal(np.isnan(value), [False, True, False])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_computed_in_float32(kind, dtype, rng):
    raw = [keras.ops.cast(o, dtype) for o in draw(rng, 2, (4, 3))]
    value = FUNCTIONS[kind](raw, **options(kind))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    exact = [keras.ops.cast(o, "float32") for o in raw]
    np.testing.assert_array_equal(
        value, FUNCTIONS[kind](exact, **options(kind))
    )
    loss = CLASSES[kind](**options(kind))
    assert keras.backend.standardize_dtype(loss(*raw).dtype) == "float32"


@pytest.mark.only("tensorflow", "torch", reason="JAX has no float64 by default")
def test_float64_where_keras_is_float64(rng):
    raw = [rng.normal(size=(4, 3)) for _ in range(2)]
    keras.config.set_floatx("float64")
    try:
        value = losses.categorical_consistency(raw, from_logits=True)
    finally:
        keras.config.set_floatx("float32")
    expected = reference.pairwise(
        "categorical", [reference.softmax(o) for o in raw]
    )
    np.testing.assert_allclose(value, expected, rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_needs_two_outputs(kind):
    with pytest.raises(ValueError, match="two or more passes. Received: 1"):
        FUNCTIONS[kind]([[[0.0, 1.0]]])


@pytest.mark.parametrize("kind", KINDS)
def test_loss_masks_weights_and_reduces_as_keras_does(kind, rng):
    a, b = (keras.ops.convert_to_tensor(o) for o in draw(rng, 2, (3, 4, 5)))
    mask = rng.random((3, 4)) > 0.4
    weights = rng.random((3, 4)).astype("float32")
    b._keras_mask = keras.ops.convert_to_tensor(mask)
    values = np.asarray(FUNCTIONS[kind]([a, b], **options(kind)), "float64")
    expected = reference.reduce(values, weights, mask)
    actual = CLASSES[kind](**options(kind))(a, b, weights)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_survives_its_config(kind, rng):
    arguments = {"reduction": "sum", "name": "mine"}
    if kind != "squared_error":
        arguments.update(from_logits=True, axis=1)
    loss = CLASSES[kind](**arguments)
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    a, b = draw(rng, 2, (3, 4, 5))
    np.testing.assert_array_equal(again(a, b), loss(a, b))


@pytest.mark.parametrize("passes", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_rdrop_loss_is_the_whole_objective(kind, passes, rng):
    raw = draw(rng, passes, (3, 4, 5))
    mask = rng.random((3, 4)) > 0.3
    weights = rng.random((3, 4)).astype("float32")
    task_losses = rng.random(passes).astype("float32")
    outputs = [reference.ACTIVATIONS[kind](np.float64(o)) for o in raw]
    consistency = reference.reduce(
        reference.pairwise(kind, outputs), weights, mask
    )
    expected = (task_losses.sum() + 3.0 * consistency) / passes
    tensors = [keras.ops.convert_to_tensor(o) for o in raw]
    arguments = {"divergence": CLASSES[kind](**options(kind))}
    actual = losses.rdrop_loss(
        task_losses, tensors, 3.0, sample_weight=weights, mask=mask, **arguments
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    for tensor in tensors:
        tensor._keras_mask = keras.ops.convert_to_tensor(mask)
    actual = losses.rdrop_loss(
        task_losses, tensors, 3.0, sample_weight=weights, **arguments
    )
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_rdrop_loss_arguments():
    outputs = [np.ones((2, 3)) / 3] * 2
    with pytest.raises(ValueError, match="one output for each task loss"):
        losses.rdrop_loss([1.0], outputs)
    with pytest.raises(ValueError, match="Received: 'auto'"):
        losses.rdrop_loss([1.0, 1.0], outputs, divergence="auto")
    np.testing.assert_allclose(losses.rdrop_loss([1.0, 3.0], outputs), 2.0)
