"""The fused objective against NumPy and against the plain path."""

import autodiff
import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDropModel
from rdrop_keras import _keras
from rdrop_keras import losses
from rdrop_keras.closed_form import xla
from rdrop_keras.losses import fused_rdrop_loss

CLASSES = 5
GRAPHS = pytest.mark.only("tensorflow", reason="reads or traces a graph")

ops = keras.ops


@pytest.fixture
def batch(rng):
    def draw(passes=2, shape=(3, 4), scale=2.0):
        logits = [
            ops.convert_to_tensor(
                rng.normal(size=(*shape, CLASSES)) * scale, "float32"
            )
            for _ in range(passes)
        ]
        return rng.integers(0, CLASSES, shape), logits

    return draw


def differentiate(function, y, logits, mode="eager", **options):
    """Returns what the function returns, and the gradients of its loss."""
    mode, *told = mode.split(", ")
    with xla.compiling(bool(told)):
        return autodiff.differentiate(
            lambda y, *logits: function(y, list(logits), **options),
            [y],
            logits,
            mode,
        )


def plain(
    y,
    logits,
    alpha=1.0,
    label_smoothing=0.0,
    ignore_class=None,
    mask=None,
    sample_weight=None,
    reduction="sum_over_batch_size",
    stop_gradient=False,
):
    """What the library makes of the same logits, term by term."""
    logits = [ops.copy(z) for z in logits]
    if mask is not None:
        for z in logits:
            _keras.carry_mask(z, ops.convert_to_tensor(mask))
    loss = losses.LabelSmoothedCrossentropy(
        label_smoothing, ignore_class, reduction=reduction
    )
    tasks = [loss(y, z, sample_weight) for z in logits]
    divergence = losses.CategoricalConsistency(
        from_logits=True, reduction=reduction
    )
    counted = None if ignore_class is None else y != ignore_class
    return losses.rdrop_loss(
        tasks, logits, alpha, divergence, sample_weight, counted, stop_gradient
    )


def check_equal(actual, expected, rtol=1e-4, atol=1e-6):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("passes", [2, 3, 4])
def test_equals_numpy(passes, dense, smoothing, rng, batch):
    y, logits = batch(passes, (2, 3))
    mask = np.array([[True, True, False], [True, False, True]])
    weights = rng.random((2, 3)).astype("float32") + 0.5
    one_hot = np.eye(CLASSES)[y]
    # Of `reference`, with Keras's meaning of smoothing for fairseq's.
    given = {"label_smoothing": smoothing * CLASSES / (CLASSES - 1)}
    given.update(weights=weights, mask=mask)

    def compute(stacked):
        return reference.objective("categorical", y, stacked, 2.5, **given)

    result, gradients = differentiate(
        fused_rdrop_loss,
        one_hot if dense else y,
        logits,
        alpha=2.5,
        label_smoothing=smoothing,
        mask=mask,
        sample_weight=weights,
    )
    np.testing.assert_allclose(result, compute(np.stack(logits)), rtol=1e-5)
    expected = reference.gradient(lambda z: compute(z)[0], np.stack(logits))
    check_equal(gradients, expected)
    assert all(np.abs(g).max() > 1e-3 for g in gradients)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_targets_that_are_no_one_hot_labels(smoothing, rng, batch):
    """Also where they do not add up to 1."""
    _, logits = batch(2, (2, 3))
    target = rng.random((2, 3, CLASSES))
    share = smoothing / (CLASSES - 1)

    def compute(stacked):
        shares = [reference.softmax(z) for z in stacked]
        smoothed = target * (1 - smoothing - share) + share
        tasks = [-(smoothed * np.log(p)).sum(-1).mean() for p in shares]
        pairs = reference.pairwise("categorical", shares).mean()
        return np.mean(tasks) + 1.5 * pairs

    result, gradients = differentiate(
        fused_rdrop_loss,
        target,
        logits,
        alpha=3.0,
        label_smoothing=smoothing,
    )
    stacked = np.stack(logits)
    np.testing.assert_allclose(result.loss, compute(stacked), rtol=1e-5)
    check_equal(gradients, reference.gradient(compute, stacked))


@pytest.mark.parametrize(
    "passes, mode",
    [(2, "eager"), (3, "eager"), (3, "graph"), (2, "xla"), (3, "xla, told")],
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 0.0},
        {"label_smoothing": 0.1},
        {"stop_gradient": True},
        {"ignore_class": -1},
        {"ignore_class": 2, "label_smoothing": 0.1},
        {"reduction": "sum"},
        {"reduction": None},
        {"reduction": "mean_with_sample_weight"},
    ],
    ids=str,
)
def test_equals_the_plain_path(options, passes, mode, rng, batch):
    y, logits = batch(passes)
    ignored = options.get("ignore_class", 1)
    y = np.where(rng.random(y.shape) > 0.6, ignored, y)
    options = {
        "alpha": 3.0,
        "mask": rng.random(y.shape) > 0.3,
        "sample_weight": rng.random(y.shape).astype("float32"),
        **options,
    }
    result, gradients = differentiate(
        fused_rdrop_loss, y, logits, mode, **options
    )
    expected, of_expected = differentiate(plain, y, logits, **options)
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5, atol=1e-7)
    check_equal(gradients, of_expected)


@GRAPHS
def test_every_part_has_its_gradient(batch):
    """Also that by alpha."""
    y, logits = batch()
    alpha = ops.convert_to_tensor(2.0)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([alpha, logits])
        result = fused_rdrop_loss(y, logits, alpha)
        divergence = losses.CategoricalConsistency(from_logits=True)(*logits)
    np.testing.assert_allclose(
        tape.gradient(result.loss, alpha), result.consistency / 2, rtol=1e-6
    )
    check_equal(
        tape.gradient(result.consistency, logits),
        tape.gradient(divergence, logits),
    )
    of_task = tape.gradient(result.task_loss, logits)
    for z, gradient in zip(logits, of_task):
        shares = reference.softmax(np.float64(z))
        expected = (shares - np.eye(CLASSES)[y]) / y.size / 2
        np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_what_comes_in_multiplies_item_by_item(rng, batch):
    y, logits = batch()
    factors = ops.convert_to_tensor(rng.normal(size=y.shape), "float32")

    def weighted(function):
        def compute(y, logits):
            result = function(y, logits, reduction=None)
            return ops.sum(factors * getattr(result, "loss", result))

        return compute

    def by_item(y, logits, reduction):
        keras_loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=True, reduction=None
        )
        tasks = [keras_loss(y, z) for z in logits]
        pairs = losses.categorical_consistency(logits, from_logits=True)
        return (sum(tasks) + pairs) / 2

    _, gradients = differentiate(weighted(fused_rdrop_loss), y, logits)
    _, expected = differentiate(weighted(by_item), y, logits)
    check_equal(gradients, expected)


@pytest.mark.parametrize("passes", [2, 3])
def test_masked_classes_contribute_nothing(passes, batch):
    y, logits = batch(passes)
    masked = [ops.pad(z, [(0, 0), (0, 0), (0, 2)]) for z in logits]
    forbidden = np.arange(CLASSES + 2) >= CLASSES
    masked = [ops.where(forbidden, -np.inf, z) for z in masked]
    result, gradients = differentiate(fused_rdrop_loss, y, masked)
    expected, of_expected = differentiate(fused_rdrop_loss, y, logits)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    check_equal([g[..., :CLASSES] for g in gradients], of_expected)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient[..., CLASSES:], 0)
    one_hot = np.eye(CLASSES + 2)[y]
    result, gradients = differentiate(fused_rdrop_loss, one_hot, masked)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    check_equal([g[..., :CLASSES] for g in gradients], of_expected)


def test_class_masked_in_one_pass_only_is_infinite():
    logits = [[[0.0, 0.0]], [[0.0, -np.inf]]]
    assert np.isposinf(fused_rdrop_loss([0], logits).loss)


def test_a_forbidden_class_beside_padding(batch):
    """What does not count is looked up as class 0."""
    y, logits = batch()
    y = np.maximum(y, 1)
    y[:, 2:] = -1
    logits = [ops.where(np.arange(CLASSES) == 0, -np.inf, z) for z in logits]
    result, gradients = differentiate(
        fused_rdrop_loss, y, logits, ignore_class=-1
    )
    assert np.isfinite(result).all()
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("size", [1e4, 1e6])
def test_huge_logits(size):
    logits = [
        ops.convert_to_tensor([[size, 0.0], [size, -size]]),
        ops.convert_to_tensor([[0.0, size], [size, -size]]),
    ]
    result, gradients = differentiate(fused_rdrop_loss, [0, 0], logits)
    np.testing.assert_allclose(result.consistency, size / 2, rtol=1e-6)
    np.testing.assert_allclose(result.task_loss, size / 4, rtol=1e-6)
    assert all(np.isfinite(g).all() for g in gradients)


def test_small_differences_keep_their_digits(rng):
    logits = rng.normal(size=(8, 50))
    other = logits + rng.normal(size=logits.shape) * 1e-3
    expected = reference.pairwise(
        "categorical", [reference.softmax(logits), reference.softmax(other)]
    ).mean()
    result = fused_rdrop_loss(
        np.zeros(8, int), [logits.astype("float32"), other.astype("float32")]
    )
    np.testing.assert_allclose(result.consistency, expected, rtol=2e-3)


@pytest.mark.parametrize("passes", [2, 3])
def test_what_normalizes_does_not_count(passes, rng):
    # Softmax in single precision adds up to 1 give or take 1e-7: times a
    # difference of 100 that would be a fifth of this divergence.
    first = rng.normal(size=(8, 50))
    exact = [first + rng.normal(size=first.shape) * 1e-2 for _ in range(passes)]
    logits = [
        (z + 100.0 * index).astype("float32") for index, z in enumerate(exact)
    ]
    expected = reference.pairwise(
        "categorical", [reference.softmax(z) for z in exact]
    )
    result = fused_rdrop_loss(np.zeros(8, int), logits, reduction=None)
    np.testing.assert_allclose(result.consistency, expected, rtol=1e-2)


@GRAPHS
@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_loud(label, batch):
    y, logits = batch()
    y[1, 2] = label
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"{CLASSES} is n"):
        differentiate(fused_rdrop_loss, y, logits)
    compiled = tf.function(
        lambda *logits: differentiate(fused_rdrop_loss, y, list(logits)),
        jit_compile=True,
    )
    result, gradients = compiled(*logits)
    assert np.isnan(result.loss)
    assert np.isnan(gradients[0][1, 2]).all()
    assert np.isfinite(gradients[0][0]).all()


def test_nothing_counts(batch):
    y, logits = batch()
    result, gradients = differentiate(
        fused_rdrop_loss, y, logits, mask=np.zeros(y.shape, bool)
    )
    np.testing.assert_array_equal(result, 0)
    np.testing.assert_array_equal(gradients, 0)


def test_masks_that_keras_attached(rng, batch):
    y, logits = batch()
    masks = [rng.random(y.shape) > 0.3 for _ in range(3)]
    expected = fused_rdrop_loss(y, logits, mask=np.all(masks, 0))
    for z, mask in zip(logits, masks):
        _keras.carry_mask(z, ops.convert_to_tensor(mask))
    found = fused_rdrop_loss(y[..., None], logits, mask=masks[2])
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_single(dtype, batch):
    y, logits = batch()
    half = [ops.cast(z, dtype) for z in logits]
    result, gradients = differentiate(fused_rdrop_loss, y, half)
    dtypes = [
        keras.backend.standardize_dtype(value.dtype)
        for value in [*result, *gradients]
    ]
    assert dtypes == ["float32"] * len(result) + [dtype] * 2
    single = [ops.cast(z, "float32") for z in half]
    expected, of_expected = differentiate(fused_rdrop_loss, y, single)
    np.testing.assert_array_equal(result, expected)
    for a, b in zip(gradients, of_expected):
        np.testing.assert_array_equal(
            ops.cast(a, "float32"), ops.cast(ops.cast(b, dtype), "float32")
        )


@GRAPHS
@pytest.mark.parametrize("passes", [2, 3])
def test_one_softmax_for_each_pass(passes, batch):
    """Whatever the gradient needs comes from the same probabilities."""
    y, logits = batch(passes)

    @tf.function
    def run(*logits):
        _, gradients = differentiate(fused_rdrop_loss, y, list(logits))
        return gradients

    kinds = [
        operation.type
        for operation in run.get_concrete_function(
            *logits
        ).graph.get_operations()
    ]
    assert kinds.count("Softmax") == passes
    assert "LogSoftmax" not in kinds
    assert "Exp" not in kinds
    assert not [kind for kind in kinds if "CrossEntropy" in kind]


@GRAPHS
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_second_derivatives_are_refused(mode, batch):
    y, logits = batch()

    def run():
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as tape:
                tape.watch(logits)
                loss = fused_rdrop_loss(y, logits).loss
            norm = ops.sum(tape.gradient(loss, logits)[0] ** 2)
        return outer.gradient(norm, logits)

    run = run if mode == "eager" else tf.function(run, autograph=False)
    with pytest.raises(NotImplementedError, match="gradient of its gradient"):
        run()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_one_step_equals_that_of_the_model(jit_compile, rng):
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.integers(0, 3, 6)
    weights = rng.random(6).astype("float32")
    masks = random_masks(rng, 2, 6, 4)

    def build():
        inputs = keras.Input((4,))
        outputs = keras.layers.Dense(3)(ScriptedDropout(masks)(inputs))
        return RDropModel(inputs, outputs)

    model, other = build(), build()
    other.set_weights(model.get_weights())
    model.compile(
        keras.optimizers.SGD(0.5),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=4.0,
        jit_compile=jit_compile,
    )
    logs = model.train_on_batch(x, y, weights, return_dict=True)

    def objective():
        outputs = [other(x, training=True) for _ in masks]
        return fused_rdrop_loss(y, outputs, 4.0, sample_weight=weights)

    mode = "xla" if jit_compile else autodiff.TRACED
    result, gradients = autodiff.by_variables(
        objective, other.trainable_weights, mode
    )
    keras.optimizers.SGD(0.5).apply(gradients, other.trainable_weights)
    for name, value in zip(("loss", "task_loss", "consistency_loss"), result):
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)
    check_equal(other.trainable_weights, model.trainable_weights, 1e-5)


@pytest.mark.only(
    "tensorflow",
    reason="JAX has no float64, and losses on PyTorch return float32",
)
def test_float64_where_keras_is_float64(rng):
    raw = rng.normal(size=(2, 4, 3))
    y = rng.integers(0, 3, 4)
    keras.config.set_floatx("float64")
    try:
        result = fused_rdrop_loss(y, list(raw), 2.0)
    finally:
        keras.config.set_floatx("float32")
    expected = reference.objective("categorical", y, raw, 2.0)
    np.testing.assert_allclose(result, expected, rtol=1e-13)


def test_errors(batch):
    y, logits = batch()
    with pytest.raises(ValueError, match="two or more passes. Received: 1"):
        fused_rdrop_loss(y, logits[:1])
    with pytest.raises(ValueError, match="two or more classes"):
        fused_rdrop_loss(y, [z[..., :1] for z in logits])
    with pytest.raises(ValueError, match=r"`logits` to have the shape \(3, 4"):
        fused_rdrop_loss(y, [logits[0], logits[1][:, 1:]])
    with pytest.raises(ValueError, match=r"`labels` to have the shape \(3, 4"):
        fused_rdrop_loss(y[1:], logits)
    with pytest.raises(ValueError, match=r"`labels` to have the shape"):
        fused_rdrop_loss(np.zeros((3, 4, CLASSES + 1)), logits)
    with pytest.raises(ValueError, match=r"`mask` to have the shape \(3, 4"):
        fused_rdrop_loss(y, logits, mask=np.ones(3))
    with pytest.raises(ValueError, match="floating point"):
        fused_rdrop_loss(y, [ops.cast(z, "int32") for z in logits])
    with pytest.raises(ValueError, match="Expected `label_smoothing`"):
        fused_rdrop_loss(y, logits, label_smoothing=-0.1)
    with pytest.raises(ValueError, match="Mark those items in `mask`"):
        fused_rdrop_loss(np.eye(CLASSES)[y], logits, ignore_class=0)
