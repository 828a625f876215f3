"""The chunked vocabulary head against NumPy and against the plain path."""

import itertools

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
from rdrop_keras.losses import vocabulary_rdrop_loss

BATCH, TIME, WIDTH, CLASSES = 3, 4, 5, 7
MODES = autodiff.MODES
GRAPHS = pytest.mark.only("tensorflow", reason="reads or traces a graph")
TAPES = pytest.mark.only("tensorflow", reason="tells None from zeros")

ops = keras.ops


def objective(
    y, hidden, kernel, bias, alpha, smoothing=0.0, weights=None, mask=None
):
    """Loss, task loss and consistency in float64, pair by pair."""
    shares = [reference.softmax(np.float64(h) @ kernel + bias) for h in hidden]
    classes = kernel.shape[-1]
    target = np.full((*y.shape, classes), smoothing / (classes - 1))
    np.put_along_axis(target, y[..., None], 1.0 - smoothing, -1)
    tasks = [-(target * np.log(p)).sum(-1) for p in shares]
    task = reference.reduce(np.mean(tasks, 0), weights, mask)
    pairs = reference.pairwise("categorical", shares)
    consistency = reference.reduce(pairs, weights, mask)
    return task + alpha * consistency / len(hidden), task, consistency


def plain(
    y,
    hidden,
    kernel,
    bias,
    alpha,
    smoothing=0.0,
    weights=None,
    mask=None,
    ignore_class=None,
    reduction="sum_over_batch_size",
    stop_gradient=False,
):
    """What the library makes of full logits."""
    logits = [ops.cast(h @ kernel + bias, "float32") for h in hidden]
    if mask is not None:
        for z in logits:
            _keras.carry_mask(z, ops.convert_to_tensor(mask))
    loss = losses.LabelSmoothedCrossentropy(
        smoothing, ignore_class, reduction=reduction
    )
    tasks = [loss(y, z, weights) for z in logits]
    divergence = losses.CategoricalConsistency(
        from_logits=True, reduction=reduction
    )
    counted = (
        None
        if ignore_class is None
        else ops.convert_to_tensor(y != ignore_class)
    )
    return losses.rdrop_loss(
        tasks, logits, alpha, divergence, weights, counted, stop_gradient
    )


@pytest.fixture
def batch(rng):
    def draw(passes=2, shape=(BATCH, TIME), width=WIDTH, classes=CLASSES):
        hidden = [
            ops.convert_to_tensor(rng.normal(size=(*shape, width)), "float32")
            for _ in range(passes)
        ]
        kernel = ops.convert_to_tensor(
            rng.normal(size=(width, classes)), "float32"
        )
        bias = ops.convert_to_tensor(rng.normal(size=classes), "float32")
        return rng.integers(0, classes, shape), hidden, kernel, bias

    return draw


def differentiate(function, y, hidden, kernel, bias, mode="eager", **options):
    """Returns what the function returns, and the gradients of its loss."""

    def run(y, *tensors):
        *hidden, kernel, bias = tensors
        return function(y, hidden, kernel, bias, **options)

    return autodiff.differentiate(run, [y], [*hidden, kernel, bias], mode)


def check_equal(actual, expected, rtol=1e-4, atol=1e-6):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("passes", [2, 3, 4])
def test_equals_numpy(passes, smoothing, rng, batch):
    y, hidden, kernel, bias = batch(passes, (2, 3), 3, 5)
    mask = np.array([[True, True, False], [True, False, True]])
    weights = rng.random((2, 3)).astype("float32") + 0.5
    given = (2.5, smoothing, weights, mask)
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        hidden,
        kernel,
        bias,
        alpha=2.5,
        label_smoothing=smoothing,
        mask=mask,
        sample_weight=weights,
        chunk_size=3,
    )
    arrays = np.stack(hidden), np.float64(kernel), np.float64(bias)
    expected = objective(y, *arrays, *given)
    np.testing.assert_allclose(result[:3], expected, rtol=1e-5)
    stacked, of_kernel, of_bias = (
        reference.gradient(
            lambda x, at=at: objective(
                y, *arrays[:at], x, *arrays[at + 1 :], *given
            )[0],
            arrays[at],
        )
        for at in range(3)
    )
    check_equal(gradients, [*stacked, of_kernel, of_bias])
    assert all(np.abs(g).max() > 1e-3 for g in gradients)


@pytest.mark.parametrize(
    "masked, chunk_size, mode",
    [
        *itertools.product([False, True], [1, 5, 12, 100, "auto"], ["eager"]),
        (True, 1, "graph"),
        (False, 5, "graph"),
        (True, "auto", "graph"),
        (True, 5, "xla"),
        (False, 100, "xla"),
        (False, "auto", "xla"),
    ],
)
def test_equals_the_plain_path(masked, chunk_size, mode, rng, batch):
    y, *head = batch()
    mask = rng.random(y.shape) > 0.4 if masked else None
    weights = rng.random(y.shape).astype("float32")
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        *head,
        mode=mode,
        alpha=3.0,
        mask=mask,
        sample_weight=weights,
        chunk_size=chunk_size,
    )
    expected, of_expected = differentiate(
        plain, y, *head, alpha=3.0, mask=mask, weights=weights
    )
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)
    found = vocabulary_rdrop_loss(
        y,
        *head,
        alpha=3.0,
        mask=mask,
        sample_weight=weights,
        chunk_size=chunk_size,
        gradients=False,
    )
    np.testing.assert_allclose(found, result, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("passes", [2, 3])
def test_tied_to_embeddings(passes, mode, batch):
    y, hidden, kernel, bias = batch(passes)
    options = {"mode": mode, "alpha": 3.0}
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        hidden,
        ops.transpose(kernel),
        bias,
        transposed=True,
        chunk_size=5,
        **options,
    )
    expected, of_expected = differentiate(
        plain, y, hidden, kernel, bias, **options
    )
    of_expected[-2] = ops.transpose(of_expected[-2])
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 2.0, "stop_gradient": True},
        {"alpha": 2.0, "ignore_class": -1},
        {"alpha": 2.0, "ignore_class": CLASSES + 9},
        {"alpha": 2.0, "reduction": "sum"},
        {"alpha": 2.0, "reduction": "mean", "ignore_class": 0},
        {"alpha": 2.0, "reduction": "mean_with_sample_weight"},
        {
            "alpha": 2.0,
            "reduction": "mean_with_sample_weight",
            "ignore_class": -1,
        },
    ],
    ids=str,
)
def test_settings_equal_the_plain_path(options, passes, rng, batch):
    y, *head = batch(passes)
    ignored = options.get("ignore_class", 1)
    y = np.where(rng.random(y.shape) > 0.6, ignored, y)
    weights = rng.random(y.shape).astype("float32")
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        *head,
        sample_weight=weights,
        chunk_size=5,
        **options,
    )
    expected, of_expected = differentiate(
        plain, y, *head, weights=weights, **options
    )
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


def full_logits(y, hidden, kernel, bias, **options):
    return losses.fused_rdrop_loss(
        y, [h @ kernel + bias for h in hidden], **options
    )


REDUCTIONS = ["sum_over_batch_size", "mean", "sum", "mean_with_sample_weight"]


@pytest.mark.parametrize(
    "items, weights",
    [
        ((4, 4), (4,)),
        ((4, 1), (4,)),
        ((1, 4), (1,)),
        ((3, 4), (3, 1)),
        ((3, 4), (1, 4)),
        ((3, 4), (3, 4)),
        ((3, 4), (3, 4, 1)),
        ((3, 4), ()),
        ((3, 2, 4), (3, 1, 1)),
        ((4, 3, 3), (3, 3)),
        ((3, 2, 1), (3, 2)),
        ((5,), (5,)),
        ((5,), (5, 1)),
        ((1,), ()),
    ],
)
def test_weights_of_every_shape_that_keras_takes(items, weights, rng, batch):
    """As the loss of all logits has it, which goes through Keras's code."""
    y, *head = batch(shape=items)
    left_out = rng.random(items) > 0.6
    y[left_out] = 1
    # Negative ones may add up to nothing.
    weights = rng.normal(size=weights).astype("float32")
    for counted in ({}, {"mask": ~left_out}, {"ignore_class": 1}):
        for reduction in REDUCTIONS:
            options = {
                "alpha": 5.0,
                "reduction": reduction,
                "sample_weight": weights,
                **counted,
            }
            found = vocabulary_rdrop_loss(
                y, *head, chunk_size=3, gradients=False, **options
            )
            np.testing.assert_allclose(
                (found.loss, found.task_loss, found.consistency),
                full_logits(y, *head, **options),
                rtol=1e-4,
                atol=1e-6,
                err_msg=str(options),
            )


@pytest.mark.parametrize(
    "items, weights",
    [((3, 4), (3,)), ((3, 4), (3, 2)), ((5,), (5, 5)), ((3, 1), (3, 2))],
)
def test_weights_that_fit_no_item_are_named(items, weights, batch):
    y, *head = batch(shape=items)
    with pytest.raises(ValueError, match=r"\(batch, 1\).*\(batch, time\)") as e:
        vocabulary_rdrop_loss(y, *head, sample_weight=np.ones(weights))
    assert str(weights) in str(e.value) and str(items) in str(e.value)


@GRAPHS
def test_weights_of_rows_whose_number_is_unknown(rng, batch):
    """The wrong number fails rather than weighs the wrong items."""
    y, *head = batch(shape=(4, 4))
    row = tf.TensorSpec((None,), "float32")

    @tf.function(input_signature=[row])
    def loss(weights):
        return vocabulary_rdrop_loss(y, *head, sample_weight=weights).loss

    weights = rng.random(4).astype("float32")
    expected = full_logits(y, *head, sample_weight=weights).loss
    np.testing.assert_allclose(loss(weights), expected, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        loss(weights[:3])


def test_shapes_of_labels(batch):
    """Columns of labels, and items that are rows."""
    y, *head = batch()
    expected = vocabulary_rdrop_loss(y, *head)
    found = vocabulary_rdrop_loss(y[..., None], *head)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    hidden, kernel, bias = head
    rows = [ops.reshape(h, (-1, WIDTH)) for h in hidden]
    np.testing.assert_allclose(
        vocabulary_rdrop_loss(y.reshape(-1), rows, kernel, bias).loss,
        expected.loss,
        rtol=1e-6,
    )


def test_without_a_bias(batch):
    y, hidden, kernel, bias = batch()
    np.testing.assert_allclose(
        vocabulary_rdrop_loss(y, hidden, kernel),
        vocabulary_rdrop_loss(y, hidden, kernel, 0.0 * bias),
        rtol=1e-6,
    )


def test_masks_that_keras_attached(rng, batch):
    """An item counts where it is valid in every pass and in the mask."""
    y, hidden, *head = batch()
    masks = [rng.random(y.shape) > 0.3 for _ in range(3)]
    for h, mask in zip(hidden, masks):
        _keras.carry_mask(h, ops.convert_to_tensor(mask))
    found = vocabulary_rdrop_loss(y, hidden, *head, mask=masks[2])
    expected = vocabulary_rdrop_loss(
        y, [ops.copy(h) for h in hidden], *head, mask=np.all(masks, 0)
    )
    assert 0 < expected.count < y.size
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
def test_counts(masked, rng, batch):
    y, hidden, kernel, bias = batch()
    mask = rng.random(y.shape) > 0.4 if masked else np.ones(y.shape, bool)
    result = vocabulary_rdrop_loss(
        y,
        hidden,
        kernel,
        bias,
        label_smoothing=0.3,
        mask=mask if masked else None,
        sample_weight=rng.random(y.shape),
        chunk_size=5,
    )
    first = reference.softmax(np.array(hidden[0] @ kernel + bias))
    nll = -np.log(np.take_along_axis(first, y[..., None], -1)[..., 0])
    assert result.count == mask.sum()
    assert result.correct == (first.argmax(-1) == y)[mask].sum()
    np.testing.assert_allclose(result.nll, nll[mask].sum(), rtol=1e-5)


def test_equal_logits_have_one_winner(batch):
    """As `argmax` has it: a new model is not always right."""
    y, hidden, kernel, bias = batch()
    result = vocabulary_rdrop_loss(y, hidden, 0 * kernel, 0 * bias)
    assert result.correct == (y == 0).sum()


@pytest.mark.parametrize("mode", MODES)
def test_nothing_counts(mode, batch):
    y, *head = batch()
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        *head,
        mode=mode,
        mask=np.zeros(y.shape, bool),
        chunk_size=5,
    )
    np.testing.assert_array_equal(result, np.zeros(6))
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


@GRAPHS
@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("time", [0, 1, 3])
def test_sizes_known_only_when_it_runs(time, jit_compile, batch):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int64),
            [tf.TensorSpec([None, None, WIDTH])] * 2,
            tf.TensorSpec([WIDTH, CLASSES]),
            tf.TensorSpec([CLASSES]),
        ],
        jit_compile=jit_compile,
        autograph=False,
    )
    def run(*batch):
        result, gradients = differentiate(
            vocabulary_rdrop_loss, *batch, chunk_size=4
        )
        return result, gradients

    y, *head = batch(2, (3, time))
    result, gradients = run(y, *head)
    if not time:
        np.testing.assert_array_equal(result, np.zeros(6))
        return
    expected, of_expected = differentiate(plain, y, *head, alpha=1.0)
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


def test_an_empty_batch(batch):
    y, *head = batch(2, (0, TIME))
    result, gradients = differentiate(vocabulary_rdrop_loss, y, *head)
    np.testing.assert_array_equal(result, np.zeros(6))
    assert gradients[0].shape == (0, TIME, WIDTH)
    np.testing.assert_array_equal(gradients[-1], 0)


@GRAPHS
@pytest.mark.parametrize("mode", MODES)
def test_alpha_may_change_without_tracing(mode, batch):
    y, *head = batch()
    traced = []

    def run(alpha):
        traced.append(alpha)
        with tf.GradientTape() as tape:
            tape.watch([alpha, head[1]])
            loss = vocabulary_rdrop_loss(y, *head, alpha=alpha).loss
        return loss, tape.gradient(loss, [alpha, head[1]])

    if mode != "eager":
        run = tf.function(run, jit_compile=mode == "xla", autograph=False)
    for alpha in (0.5, 4.0):
        loss, (of_alpha, of_kernel) = run(ops.convert_to_tensor(alpha))
        expected, of_expected = differentiate(plain, y, *head, alpha=alpha)
        np.testing.assert_allclose(loss, expected, rtol=1e-5)
        check_equal([of_kernel], [of_expected[-2]])
        assert of_alpha is None
    assert mode == "eager" or len(traced) == 1


def test_what_does_not_count_may_be_anything(batch):
    """Padding may hold NaN and labels that are no classes."""
    y, hidden, kernel, bias = batch()
    mask = np.ones(y.shape, bool)
    mask[:, 2:] = False
    expected, of_expected = differentiate(
        vocabulary_rdrop_loss, y, hidden, kernel, bias, mask=mask, chunk_size=4
    )
    y = np.where(mask, y, 10**6)
    hidden = [ops.where(mask[..., None], h, np.nan) for h in hidden]
    result, gradients = differentiate(
        vocabulary_rdrop_loss, y, hidden, kernel, bias, mask=mask, chunk_size=4
    )
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    check_equal(gradients, of_expected)
    for gradient in gradients[:2]:
        np.testing.assert_array_equal(np.array(gradient)[~mask], 0)


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_label_that_is_no_class_is_loud(label, batch):
    y, *head = batch()
    y[1, 2] = label
    result, gradients = differentiate(vocabulary_rdrop_loss, y, *head)
    assert np.isnan(result.loss)
    assert np.isnan(gradients[-1]).any()


@pytest.mark.parametrize("passes", [2, 3])
def test_forbidden_classes(passes, batch):
    y, hidden, kernel, bias = batch(passes)
    y = np.minimum(y, CLASSES - 3)
    forbidden = np.arange(CLASSES) >= CLASSES - 2
    mask = np.arange(TIME) != 1
    mask = np.broadcast_to(mask, y.shape)
    result, gradients = differentiate(
        vocabulary_rdrop_loss,
        y,
        hidden,
        kernel,
        ops.where(forbidden, -np.inf, bias),
        mask=mask,
        chunk_size=5,
    )
    expected, of_expected = differentiate(
        vocabulary_rdrop_loss,
        y,
        hidden,
        kernel[:, : CLASSES - 2],
        bias[: CLASSES - 2],
        mask=mask,
    )
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    check_equal(gradients[:passes], of_expected[:passes])
    np.testing.assert_array_equal(gradients[-1][CLASSES - 2 :], 0)
    np.testing.assert_array_equal(gradients[-2][:, CLASSES - 2 :], 0)


def test_the_first_class_may_be_forbidden_beside_padding(batch):
    """Padding is looked up as class 0, which models often forbid."""
    y, hidden, kernel, bias = batch()
    y = np.maximum(y, 1)
    bias = ops.where(np.arange(CLASSES) == 0, -np.inf, bias)
    result, gradients = differentiate(
        vocabulary_rdrop_loss, y, hidden, kernel, bias, chunk_size=5
    )
    assert all(np.isfinite(result))
    assert all(np.isfinite(g).all() for g in gradients)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mode", MODES)
def test_half_precision(mode, dtype, batch):
    """As if the products alone had been rounded."""
    y, hidden, kernel, bias = batch(2, (BATCH, TIME), 4, 6)
    half = [ops.cast(h, dtype) for h in hidden]
    result, gradients = differentiate(
        vocabulary_rdrop_loss, y, half, kernel, bias, mode, chunk_size=5
    )
    dtypes = [
        keras.backend.standardize_dtype(value.dtype)
        for value in [*result, *gradients]
    ]
    assert dtypes == ["float32"] * len(result) + [dtype] * 2 + ["float32"] * 2
    expected, of_expected = differentiate(
        plain, y, hidden, kernel, bias, alpha=1.0
    )
    tolerance = 2e-3 if dtype == "float16" else 2e-2
    np.testing.assert_allclose(result.loss, expected, rtol=tolerance)
    for a, b in zip(gradients, of_expected):
        a, b = np.array(ops.cast(a, "float32")), np.array(b)
        assert np.abs(a - b).max() < 2 * tolerance * np.abs(b).max()


@pytest.mark.parametrize("weight", [1e-6, 1e6])
def test_half_precision_neither_vanishes_nor_overflows(weight, batch):
    """The loss scale comes after the products, which must not need it."""
    y, hidden, kernel, bias = batch()
    half = [ops.cast(h, "float16") for h in hidden]

    def scaled(y, hidden, kernel, bias):
        loss = vocabulary_rdrop_loss(
            y, hidden, kernel, bias, sample_weight=np.full(y.shape, weight)
        ).loss
        return loss * (1.0 / weight)

    _, gradients = differentiate(scaled, y, half, kernel, bias)
    _, expected = differentiate(plain, y, hidden, kernel, bias, alpha=1.0)
    for a, b in zip(gradients, expected):
        a, b = np.array(ops.cast(a, "float32")), np.array(b)
        assert np.abs(a - b).max() < 5e-3 * np.abs(b).max()


@pytest.mark.parametrize("mode", MODES)
def test_what_comes_in_multiplies_the_gradients(mode, batch):
    y, *head = batch()

    def twice(*batch):
        return 3.0 * vocabulary_rdrop_loss(*batch).loss ** 2

    def plain_twice(*batch):
        return 3.0 * plain(*batch, alpha=1.0) ** 2

    _, gradients = differentiate(twice, y, *head, mode=mode)
    _, expected = differentiate(plain_twice, y, *head)
    check_equal(gradients, expected)


@TAPES
def test_gradients_flow_through_the_loss_alone(batch):
    y, hidden, kernel, bias = batch()
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(kernel)
        result = vocabulary_rdrop_loss(y, hidden, kernel, bias)
        quick = vocabulary_rdrop_loss(y, hidden, kernel, bias, gradients=False)
    assert tape.gradient(result.loss, kernel) is not None
    for value in [*result[1:], *quick]:
        assert tape.gradient(value, kernel) is None


@GRAPHS
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_second_derivatives_are_refused(mode, batch):
    y, hidden, kernel, bias = batch()

    def run():
        with tf.GradientTape() as outer:
            outer.watch(kernel)
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                loss = vocabulary_rdrop_loss(y, hidden, kernel, bias).loss
            norm = ops.sum(tape.gradient(loss, kernel) ** 2)
        return outer.gradient(norm, kernel)

    run = run if mode == "eager" else tf.function(run, autograph=False)
    with pytest.raises(NotImplementedError, match="gradient of its gradient"):
        run()


def every_tensor(graph):
    """All tensors of a graph and of the functions in it."""
    graphs = [graph, *graph._functions.values()]
    for each in graphs:
        each = getattr(each, "graph", each)
        for operation in each.get_operations():
            yield from operation.outputs


@GRAPHS
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_no_tensor_holds_the_logits_of_all_items(known, gradients, batch):
    rows, time, width, classes, chunk = 16, 8, 3, 1000, 4
    *_, kernel, bias = batch(2, (rows, time), width, classes)

    def largest(compute):
        batch_size = rows if known else None
        signature = [
            tf.TensorSpec((batch_size, time), tf.int64),
            [tf.TensorSpec((batch_size, time, width))] * 2,
        ]

        @tf.function(input_signature=signature, autograph=False)
        def run(y, hidden):
            with tf.GradientTape() as tape:
                tape.watch(kernel)
                loss = compute(y, hidden)
            return loss, tape.gradient(loss, kernel)

        found = run.get_concrete_function()
        sizes = []
        seen = list(every_tensor(found.graph))
        assert any(tensor.graph is not found.graph for tensor in seen)
        for tensor in seen:
            shape = tensor.shape
            if shape.rank and shape[-1] == classes:
                # All of unknown size with a class axis would be the logits.
                assert None not in shape, tensor
                sizes.append(shape.num_elements())
        return max(sizes)

    def chunked(y, hidden):
        return vocabulary_rdrop_loss(
            y, hidden, kernel, bias, chunk_size=chunk, gradients=gradients
        ).loss

    limit = max(2 * chunk, width) * classes
    assert largest(chunked) <= limit < rows * time * classes


@GRAPHS
def test_chunks_follow_from_the_size(batch):
    """About 32 MiB of logits, in chunks of equal size."""
    rows, classes = 1000, 30_000
    y, hidden, kernel, bias = batch(2, (rows, 1), 1, classes)

    @tf.function
    def run(hidden):
        return vocabulary_rdrop_loss(y, hidden, kernel, bias).loss

    graph = run.get_concrete_function(hidden).graph
    sizes = {
        tensor.shape[-2]
        for tensor in every_tensor(graph)
        if tensor.shape.rank == 2 and tensor.shape[-1] == classes
    }
    # 139 items of two passes would fit, so there are 8 chunks of 125.
    assert max(sizes) == 250


def test_one_step_equals_that_of_the_model(rng):
    """The weights after SGD: hidden layers, head and all."""
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.integers(0, 3, 6)
    masks = random_masks(rng, 2, 6, 8)

    def build():
        inputs = keras.Input((4,))
        states = keras.layers.Dense(8, activation="tanh")(inputs)
        states = ScriptedDropout(masks)(states)
        return RDropModel(inputs, keras.layers.Dense(3)(states))

    model, other = build(), build()
    other.set_weights(model.get_weights())
    optimizer = keras.optimizers.SGD(0.5)
    model.compile(optimizer, losses.LabelSmoothedCrossentropy(0.1), rdrop=4.0)
    logs = model.train_on_batch(x, y, return_dict=True)

    *_, head = other.layers
    states = keras.Model(other.input, head.input)

    def objective():
        return vocabulary_rdrop_loss(
            y,
            [states(x, training=True) for _ in masks],
            head.kernel,
            head.bias,
            alpha=4.0,
            label_smoothing=0.1,
            chunk_size=4,
        )

    result, gradients = autodiff.by_variables(
        objective, other.trainable_weights, autodiff.TRACED
    )
    keras.optimizers.SGD(0.5).apply(gradients, other.trainable_weights)
    names = ("loss", "task_loss", "consistency_loss")
    for name, value in zip(names, result):
        np.testing.assert_allclose(logs[name], value, rtol=1e-5)
    check_equal(other.trainable_weights, model.trainable_weights, 1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_embeddings_at_both_ends(mode, rng):
    """A tied kernel gets the gradient of the lookup and of the head."""
    words = rng.integers(0, CLASSES, (BATCH, TIME))
    y = rng.integers(0, CLASSES, (BATCH, TIME))
    masks = random_masks(rng, 2, TIME, WIDTH)
    layer = keras.layers.Embedding(CLASSES, WIDTH)
    layer.build()

    def run(compute, mode="eager"):
        def loss():
            hidden = [layer(words) * mask for mask in masks]
            return compute(hidden, layer.embeddings)

        return autodiff.by_variables(loss, [layer.embeddings], mode)[1]

    def chunked(hidden, embeddings):
        return vocabulary_rdrop_loss(
            y, hidden, embeddings, transposed=True, chunk_size=5
        ).loss

    def full(hidden, embeddings):
        return plain(y, hidden, keras.ops.transpose(embeddings), 0.0, 1.0)

    check_equal(run(chunked, mode), run(full))


def test_errors(batch):
    y, hidden, kernel, bias = batch()
    with pytest.raises(ValueError, match="two or more passes. Received: 1"):
        vocabulary_rdrop_loss(y, hidden[:1], kernel)
    with pytest.raises(ValueError, match="take `transposed=True`"):
        vocabulary_rdrop_loss(y, hidden, ops.transpose(kernel))
    with pytest.raises(ValueError, match=r"\(vocabulary, width\)"):
        vocabulary_rdrop_loss(y, hidden, kernel, transposed=True)
    with pytest.raises(ValueError, match="two or more classes"):
        vocabulary_rdrop_loss(y, hidden, kernel[:, :1])
    with pytest.raises(ValueError, match=r"`bias` to have the shape \(7,\)"):
        vocabulary_rdrop_loss(y, hidden, kernel, bias[1:])
    with pytest.raises(ValueError, match=r"`labels` to have the shape \(3, 4"):
        vocabulary_rdrop_loss(y[:, 1:], hidden, kernel)
    with pytest.raises(ValueError, match=r"`mask` to have the shape \(3, 4"):
        vocabulary_rdrop_loss(y, hidden, kernel, mask=np.ones(BATCH))
    with pytest.raises(ValueError, match=r"`hidden` to have the shape \(3, 4"):
        vocabulary_rdrop_loss(y, [hidden[0], hidden[1][:2]], kernel)
    with pytest.raises(ValueError, match="floating point"):
        integers = [ops.cast(h, "int32") for h in hidden]
        vocabulary_rdrop_loss(y, integers, kernel)
    with pytest.raises(ValueError, match="Expected `label_smoothing`"):
        vocabulary_rdrop_loss(y, hidden, kernel, label_smoothing=1.0)
    for size in (0, -1, 2.5, "large"):
        with pytest.raises(ValueError, match="Expected `chunk_size`"):
            vocabulary_rdrop_loss(y, hidden, kernel, chunk_size=size)
    for reduction in (None, "none", "average"):
        with pytest.raises(ValueError, match="Expected `reduction`"):
            vocabulary_rdrop_loss(y, hidden, kernel, reduction=reduction)
