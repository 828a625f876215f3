"""Gradients in closed form equal automatic ones on every backend."""

import autodiff
import keras
import numpy as np
import pytest

from rdrop_keras import losses
from rdrop_keras.closed_form.custom_gradient import custom_gradient
from rdrop_keras.closed_form.derivatives import once_only
from rdrop_keras.layers import AdaptiveSoftmax

ops = keras.ops
ROWS, TIME, WIDTH, CLASSES = 3, 4, 5, 7
MASK = np.arange(TIME) < np.array([[4], [2], [1]])
SETTINGS = [
    {},
    {"alpha": 0.0},
    {"stop_gradient": True},
    {"mask": MASK},
    {"sample_weight": np.array([[0.5], [2.0], [0.0]], "float32")},
    {"ignore_class": 2},
]


def arrays(rng, *shapes):
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def labels(rng):
    return rng.integers(0, CLASSES, (ROWS, TIME))


def reference(y, passes, alpha=1.0, stop_gradient=False, **counts):
    """The objective by Keras's own crossentropy and `rdrop_loss`."""
    weight = counts.get("sample_weight")
    mask = counts.get("mask", np.ones_like(y, bool))
    ignored = counts.get("ignore_class")
    if ignored is not None:
        mask = mask & (y != ignored)
    weights = mask * (1.0 if weight is None else weight)
    weights = weights * mask.size / mask.sum()
    task = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tasks = [task(y, z, sample_weight=weights) for z in passes]
    divergence = losses.CategoricalConsistency(from_logits=True)
    return losses.rdrop_loss(
        tasks,
        passes,
        alpha,
        divergence,
        sample_weight=weights,
        stop_gradient=stop_gradient,
    )


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "".join(s))
def test_logits(settings, passes, rng):
    settings = {"alpha": 2.0, **settings}
    y, logits = labels(rng), arrays(rng, *[(ROWS, TIME, CLASSES)] * passes)

    def fused(*logits):
        return losses.fused_rdrop_loss(y, logits, **settings).loss

    expected = reference(
        y, [ops.convert_to_tensor(z) for z in logits], **settings
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(fused(*logits)),
        ops.convert_to_numpy(expected),
        rtol=1e-5,
    )
    autodiff.assert_close(
        autodiff.gradients(fused, *logits),
        autodiff.gradients(lambda *z: reference(y, z, **settings), *logits),
    )


def test_each_part_has_a_gradient(rng):
    y, logits = labels(rng), arrays(rng, *[(ROWS, TIME, CLASSES)] * 2)
    for part, alpha in (("task_loss", 0.0), ("consistency", None)):

        def of_part(*z, part=part):
            return getattr(losses.fused_rdrop_loss(y, z), part)

        def expected(*z, alpha=alpha):
            if alpha is not None:
                return reference(y, z, alpha)
            return 2 * (reference(y, z, 1.0) - reference(y, z, 0.0))

        autodiff.assert_close(
            autodiff.gradients(of_part, *logits),
            autodiff.gradients(expected, *logits),
        )


@pytest.mark.parametrize("chunk_size", [3, "auto"])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "".join(s))
def test_hidden_states(settings, transposed, chunk_size, rng):
    settings = {"alpha": 2.0, **settings}
    shape = (CLASSES, WIDTH) if transposed else (WIDTH, CLASSES)
    y = labels(rng)
    trained = arrays(rng, *[(ROWS, TIME, WIDTH)] * 2, shape, (CLASSES,))

    def in_chunks(first, second, kernel, bias):
        return losses.vocabulary_rdrop_loss(
            y,
            [first, second],
            kernel,
            bias,
            transposed=transposed,
            chunk_size=chunk_size,
            **settings,
        ).loss

    def whole(first, second, kernel, bias):
        kernel = ops.transpose(kernel) if transposed else kernel
        passes = [ops.matmul(h, kernel) + bias for h in (first, second)]
        return reference(y, passes, **settings)

    autodiff.assert_close(
        autodiff.gradients(in_chunks, *trained),
        autodiff.gradients(whole, *trained),
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "".join(s))
def test_adaptive_softmax(settings, rng):
    settings = {"alpha": 2.0, **settings}
    layer = AdaptiveSoftmax(CLASSES, [3], div_value=2.0)
    layer.build((ROWS, TIME, WIDTH))
    y, hidden = labels(rng), arrays(rng, *[(ROWS, TIME, WIDTH)] * 2)

    def in_chunks(*hidden):
        return losses.adaptive_rdrop_loss(
            y, hidden, layer, chunk_size=3, **settings
        ).loss

    def whole(*hidden):
        # Log-probabilities are logits.
        return reference(y, [layer(h) for h in hidden], **settings)

    autodiff.assert_close(
        autodiff.gradients(in_chunks, *hidden),
        autodiff.gradients(whole, *hidden),
    )


def test_second_derivatives_are_refused(rng):
    y = labels(rng)
    one, other = arrays(rng, *[(ROWS, TIME, CLASSES)] * 2)

    def fused(z):
        return losses.fused_rdrop_loss(y, [z, other]).loss

    with pytest.raises(NotImplementedError, match="fused=False"):
        autodiff.gradients(autodiff.norm_of_gradient(fused), one)
    kernel = arrays(rng, (CLASSES, 9))[0]

    def chunked(z):
        hidden = [z, ops.convert_to_tensor(other)]
        return losses.vocabulary_rdrop_loss(y % 9, hidden, kernel).loss

    with pytest.raises(NotImplementedError, match="fused=False"):
        autodiff.gradients(autodiff.norm_of_gradient(chunked), one)


def test_custom_gradient_has_one_contract(rng):
    """One argument for each result, and one gradient for each argument."""
    received = []

    @custom_gradient
    def function(a, b):
        def gradient(of_sum, of_product):
            received.append((of_sum, of_product))
            return 10.0 * of_sum, 100.0 * of_product

        return (a + b, a * b), gradient

    a, b = arrays(rng, (2,), (2,))

    def loss(a, b):
        total, product = function(a, b)
        return ops.sum(total) + 3.0 * ops.sum(product)

    found = autodiff.gradients(loss, a, b)
    autodiff.assert_close(found, [np.full(2, 10.0), np.full(2, 300.0)])
    assert len(received) == 1


def test_result_that_is_not_used_has_the_gradient_zero(rng):
    @custom_gradient
    def function(a):
        return (2 * a, 5 * a), lambda one, other: [2 * one + 5 * other]

    (a,) = arrays(rng, (3,))
    found = autodiff.gradients(lambda a: ops.sum(function(a)[1]), a)
    autodiff.assert_close(found, [np.full(3, 5.0)])


def test_once_only_passes_values_on(rng):
    a, b = arrays(rng, (2,), (2,))
    (found,) = once_only([ops.convert_to_tensor(a)], [ops.convert_to_tensor(b)])
    np.testing.assert_array_equal(ops.convert_to_numpy(found), a)
