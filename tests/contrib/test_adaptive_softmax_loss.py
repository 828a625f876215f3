"""The chunked adaptive softmax against its dense log-probabilities."""

import itertools

import autodiff
import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from rdrop_keras import _keras
from rdrop_keras import losses
from rdrop_keras.contrib.adaptive_softmax import AdaptiveWeights
from rdrop_keras.layers import AdaptiveSoftmax
from rdrop_keras.losses import adaptive_rdrop_loss

BATCH, TIME, WIDTH, WORDS = 3, 4, 6, 13
# Inner widths and words of the clusters, behind a shortlist of four.
SHORTLIST, CLUSTERS = 4, [(3, 5), (2, 4)]
MODES = autodiff.MODES
GRAPHS = pytest.mark.only("tensorflow", reason="reads or traces a graph")
TAPES = pytest.mark.only("tensorflow", reason="tells None from zeros")

ops = keras.ops


def assemble(tensors):
    """Returns the weights that a flat list of tensors is made of."""
    kernel, bias, *tails = tensors
    return AdaptiveWeights(kernel, bias, tails[::2], tails[1::2])


def dense(hidden, weights):
    weights = assemble(weights)
    return weights.log_probabilities(weights.project(hidden))


def chunked(y, hidden, weights, **options):
    return adaptive_rdrop_loss(y, hidden, assemble(weights), **options).loss


def full(y, hidden, weights, **options):
    """What the backend differentiates: all log-probabilities, pair by pair."""
    logs = [dense(h, weights) for h in hidden]
    return objective(y, logs, **options)[0]


def objective(
    y,
    logs,
    alpha=1.0,
    ignore_class=None,
    mask=None,
    sample_weight=None,
    reduction="sum_over_batch_size",
    stop_gradient=False,
    chunk_size=None,
):
    """Loss, task loss and consistency by their definitions."""
    y = ops.cast(y, "int32")
    if ignore_class is not None:
        counts = y != ignore_class
        mask = counts if mask is None else counts & mask
    if mask is not None:
        y = ops.where(mask, y, 0)
    task = sum(-ops.take_along_axis(z, y[..., None], -1)[..., 0] for z in logs)
    pairs = list(itertools.permutations(logs, 2))
    consistency = 0.0
    for first, second in pairs:
        if stop_gradient:
            first = ops.stop_gradient(first)
        terms = ops.exp(first) * (first - second)
        consistency += ops.sum(terms, -1) / len(pairs)

    def reduce(values):
        weights = ops.ones_like(values)
        counts = ops.ones_like(values)
        if mask is not None:
            counts = ops.cast(mask, values.dtype)
        if sample_weight is not None:
            weights = weights * ops.cast(sample_weight, values.dtype)
        total = ops.sum(ops.where(counts > 0, values * weights, 0))
        if reduction == "sum":
            return total
        if reduction == "mean_with_sample_weight":
            return total / ops.sum(counts * weights)
        return total / ops.sum(counts)

    task, consistency = reduce(task / len(logs)), reduce(consistency)
    return task + alpha / len(logs) * consistency, task, consistency


@pytest.fixture
def batch(rng):
    def draw(passes=2, shape=(BATCH, TIME), clusters=CLUSTERS, dtype="float32"):
        head = SHORTLIST + len(clusters)
        shapes = [(WIDTH, head), (head,)]
        for inner, words in clusters:
            shapes += [(WIDTH, inner), (inner, words)]
        weights = [
            ops.convert_to_tensor(rng.normal(size=s), dtype) for s in shapes
        ]
        hidden = [
            ops.convert_to_tensor(rng.normal(size=(*shape, WIDTH)), dtype)
            for _ in range(passes)
        ]
        words = SHORTLIST + sum(words for _, words in clusters)
        return rng.integers(0, words, shape), hidden, weights

    return draw


def differentiate(compute, y, hidden, weights, mode="eager", **options):
    """Returns the loss, and its gradients by everything."""
    passes = len(hidden)

    def run(y, *tensors):
        return compute(y, tensors[:passes], tensors[passes:], **options)

    return autodiff.differentiate(run, [y], [*hidden, *weights], mode)


def check_equal(actual, expected, rtol=1e-5, atol=2e-6):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.mark.parametrize("passes", [2, 3, 4])
def test_equals_numpy(passes, batch):
    """Finite differences of the definition, in double precision."""
    y, hidden, weights = batch(passes, (2,))
    arrays = [np.float64(t) for t in [*hidden, *weights]]

    def value(*arrays):
        hidden = arrays[:passes]
        kernel, bias, *tails = arrays[passes:]
        shares = []
        for h in hidden:
            head = reference.softmax(h @ kernel + bias)
            parts = [head[:, :SHORTLIST]]
            for at in range(len(CLUSTERS)):
                within = reference.softmax(
                    h @ tails[2 * at] @ tails[2 * at + 1]
                )
                place = SHORTLIST + at
                parts.append(head[:, place : place + 1] * within)
            shares.append(np.concatenate(parts, -1))
        task = np.mean([-np.log(p[np.arange(2), y]) for p in shares])
        pairs = reference.pairwise("categorical", shares).mean()
        return task + 2.5 / passes * pairs

    loss, gradients = differentiate(
        chunked, y, hidden, weights, alpha=2.5, chunk_size=2
    )
    np.testing.assert_allclose(loss, value(*arrays), rtol=1e-5)
    for at, gradient in enumerate(gradients):
        expected = reference.gradient(
            lambda x, at=at: value(*arrays[:at], x, *arrays[at + 1 :]),
            arrays[at],
        )
        np.testing.assert_allclose(gradient, expected, 1e-4, 2e-6)
        assert np.abs(expected).max() > 1e-3


@pytest.mark.parametrize(
    ("chunk_size", "mode"),
    [
        *((size, "eager") for size in (1, 5, 6, 100, "auto")),
        ("auto", "graph"),
        (5, "xla"),
    ],
)
@pytest.mark.parametrize("passes", [2, 3])
def test_equals_the_dense_computation(passes, chunk_size, mode, rng, batch):
    y, hidden, weights = batch(passes)
    mask = rng.random(y.shape) > 0.3
    options = {
        "alpha": 3.0,
        "mask": mask,
        "sample_weight": rng.random(y.shape).astype("float32"),
    }
    loss, gradients = differentiate(
        chunked, y, hidden, weights, mode, chunk_size=chunk_size, **options
    )
    expected, of_expected = differentiate(full, y, hidden, weights, **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)
    found = adaptive_rdrop_loss(
        y,
        hidden,
        assemble(weights),
        chunk_size=chunk_size,
        gradients=False,
        **options,
    )
    logs = [dense(h, weights) for h in hidden]
    np.testing.assert_allclose(
        found[:3], objective(y, logs, **options), rtol=1e-5
    )
    best = np.argmax(logs[0], -1)
    assert found.correct == (best == y)[mask].sum()
    nll = -np.take_along_axis(np.array(logs[0]), y[..., None], -1)[..., 0]
    np.testing.assert_allclose(found.nll, nll[mask].sum(), rtol=1e-5)
    assert found.count == mask.sum()


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 50.0},
        {"stop_gradient": True, "alpha": 4.0},
        {"ignore_class": 0},
        {"ignore_class": -1},
        {"ignore_class": 12},
        {"reduction": "sum", "ignore_class": 2},
        {"reduction": "mean"},
        {"reduction": "mean_with_sample_weight", "ignore_class": -1},
    ],
    ids=str,
)
def test_settings(options, passes, rng, batch):
    y, hidden, weights = batch(passes)
    y = np.where(rng.random(y.shape) > 0.6, options.get("ignore_class", 1), y)
    options = {"sample_weight": rng.random(y.shape), **options}
    loss, gradients = differentiate(
        chunked, y, hidden, weights, chunk_size=5, **options
    )
    expected, of_expected = differentiate(full, y, hidden, weights, **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected, atol=1e-5)


@pytest.mark.parametrize(
    "clusters", [[(2, 9)], [(3, 1), (1, 8)], [(3, 5), (2, 4), (1, 2)]], ids=str
)
def test_numbers_of_clusters(clusters, batch):
    y, hidden, weights = batch(2, (40,), clusters)
    loss, gradients = differentiate(
        chunked, y, hidden, weights, alpha=2.0, chunk_size=16
    )
    expected, of_expected = differentiate(full, y, hidden, weights, alpha=2.0)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


def test_is_the_objective_of_the_plain_path(rng, batch):
    """The library's own divergence and crossentropy of what the layer says."""
    y, hidden, _ = batch()
    layer = AdaptiveSoftmax(WORDS, [4, 9], 1.5, head_bias=True)
    logs = [layer(h) for h in hidden]
    task = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    expected = losses.rdrop_loss(
        [task(y, z) for z in logs],
        logs,
        3.0,
        losses.CategoricalConsistency(from_logits=True),
    )
    found = adaptive_rdrop_loss(y, hidden, layer, alpha=3.0, chunk_size=5)
    np.testing.assert_allclose(found.loss, expected, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_by_the_variables_of_a_layer(mode, batch):
    y, hidden, _ = batch()
    layer = AdaptiveSoftmax(WORDS, [4, 9], 1.5, head_bias=True)
    layer.build((None, None, WIDTH))
    variables = layer.trainable_variables

    def chunked():
        return adaptive_rdrop_loss(y, hidden, layer, 3.0, chunk_size=5).loss

    def full():
        return objective(y, [layer(h) for h in hidden], 3.0)[0]

    _, found = autodiff.by_variables(chunked, variables, mode)
    _, expected = autodiff.by_variables(full, variables)
    check_equal(found, expected)


def test_shapes_of_weights_and_labels(rng, batch):
    y, hidden, weights = batch()
    weights = assemble(weights)
    factors = rng.random(BATCH).astype("float32")
    expected = adaptive_rdrop_loss(
        y, hidden, weights, sample_weight=np.repeat(factors[:, None], TIME, 1)
    )
    found = adaptive_rdrop_loss(
        y[..., None], hidden, weights, sample_weight=factors[:, None]
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"\(batch, 1\).*\(batch, time\)"):
        adaptive_rdrop_loss(y, hidden, weights, sample_weight=factors)


def test_masks_that_keras_attached(rng, batch):
    y, hidden, weights = batch()
    weights = assemble(weights)
    masks = [rng.random(y.shape) > 0.3 for _ in range(3)]
    plain = [ops.copy(h) for h in hidden]
    for h, mask in zip(hidden, masks):
        _keras.carry_mask(h, ops.convert_to_tensor(mask))
    found = adaptive_rdrop_loss(y, hidden, weights, mask=masks[2])
    expected = adaptive_rdrop_loss(y, plain, weights, mask=np.all(masks, 0))
    assert 0 < expected.count < y.size
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("mode", ["eager", "xla"])
def test_what_does_not_count_may_be_anything(mode, batch):
    """NaN in padding reaches not even the gradient by the projections."""
    y, hidden, weights = batch()
    mask = np.ones(y.shape, bool)
    mask[:, 2:] = False
    options = {"mask": mask, "chunk_size": 4}
    expected, of_expected = differentiate(
        chunked, y, hidden, weights, **options
    )
    y = np.where(mask, y, 10**6)
    hidden = [ops.where(mask[..., None], h, np.nan) for h in hidden]
    loss, gradients = differentiate(
        chunked, y, hidden, weights, mode, **options
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    check_equal(gradients, of_expected)
    for gradient in gradients[:2]:
        np.testing.assert_array_equal(np.array(gradient)[~mask], 0)


@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_nothing_counts(mode, batch):
    y, hidden, weights = batch()
    loss, gradients = differentiate(
        chunked, y, hidden, weights, mode, mask=np.zeros(y.shape, bool)
    )
    assert loss == 0
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, 0)


@GRAPHS
@pytest.mark.parametrize(
    ("time", "jit_compile"), [(0, False), (3, False), (0, True), (3, True)]
)
def test_sizes_known_only_when_it_runs(time, jit_compile, batch):
    y, hidden, weights = batch(2, (3, time))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.int64),
            [tf.TensorSpec([None, None, WIDTH])] * 2,
            [tf.TensorSpec(w.shape) for w in weights],
        ],
        jit_compile=jit_compile,
        autograph=False,
    )
    def run(*batch):
        return differentiate(chunked, *batch, chunk_size=4)

    loss, gradients = run(y, hidden, weights)
    if not time:
        assert loss == 0
        return
    expected, of_expected = differentiate(full, y, hidden, weights)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


@pytest.mark.parametrize("label", [-1, WORDS])
def test_a_label_that_is_no_class_is_loud(label, batch):
    y, hidden, weights = batch()
    y[1, 2] = label
    loss, gradients = differentiate(chunked, y, hidden, weights)
    assert np.isnan(loss)
    assert all(np.isnan(g).any() for g in gradients)


@pytest.mark.parametrize("forbidden", [1, SHORTLIST + 1])
@pytest.mark.parametrize("passes", [2, 3])
def test_forbidden_words_and_clusters(passes, forbidden, batch):
    """As if the word, or the last cluster, were not there at all."""
    y, hidden, weights = batch(passes)
    y = np.where(y % 3 == 1, 0, y) % (SHORTLIST + 5)
    keep = np.arange(SHORTLIST + 2) != forbidden
    bias = ops.where(keep, weights[1], -np.inf)
    loss, gradients = differentiate(
        chunked, y, hidden, [weights[0], bias, *weights[2:]], chunk_size=5
    )
    others = list(weights)
    # Far enough for float32 and near enough for the backend's own gradients.
    others[1] = ops.where(keep, weights[1], -200.0)
    expected, of_expected = differentiate(full, y, hidden, others)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    check_equal(gradients, of_expected)


def test_without_a_bias(batch):
    y, hidden, weights = batch()
    weights[1] = 0.0 * weights[1]
    with_bias = assemble(weights)
    np.testing.assert_allclose(
        adaptive_rdrop_loss(y, hidden, with_bias._replace(bias=None)),
        adaptive_rdrop_loss(y, hidden, with_bias),
        rtol=1e-6,
    )


def test_equal_passes_do_not_diverge(batch):
    y, hidden, weights = batch()
    same = [hidden[0]] * 3
    found = adaptive_rdrop_loss(y, same, assemble(weights), alpha=0.0)
    np.testing.assert_allclose(found.consistency, 0.0, atol=1e-7)
    _, gradients = differentiate(chunked, y, same, weights, alpha=9.0)
    _, expected = differentiate(chunked, y, same, weights, alpha=0.0)
    check_equal(gradients, expected)


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [("float16", "eager"), ("bfloat16", "eager"), ("float16", "xla")],
)
def test_half_precision(dtype, mode, batch):
    """As if the products alone had been rounded."""
    y, hidden, weights = batch()
    half = [ops.cast(h, dtype) for h in hidden]
    loss, gradients = differentiate(
        chunked, y, half, weights, mode, chunk_size=5
    )
    dtypes = [
        keras.backend.standardize_dtype(value.dtype)
        for value in [loss, *gradients]
    ]
    assert dtypes == ["float32"] + [dtype] * 2 + ["float32"] * 6
    expected, of_expected = differentiate(full, y, hidden, weights)
    tolerance = 3e-3 if dtype == "float16" else 3e-2
    np.testing.assert_allclose(loss, expected, rtol=tolerance)
    for a, b in zip(gradients, of_expected):
        a, b = np.array(ops.cast(a, "float32")), np.array(b)
        assert np.abs(a - b).max() < 2 * tolerance * np.abs(b).max()


@TAPES
def test_gradients_flow_through_the_loss_alone(batch):
    y, hidden, weights = batch()
    kernel = weights[3]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(weights)
        result = adaptive_rdrop_loss(y, hidden, assemble(weights))
        quick = adaptive_rdrop_loss(
            y, hidden, assemble(weights), gradients=False
        )
        scaled = 3.0 * result.loss**2
    expected = 6.0 * result.loss * tape.gradient(result.loss, kernel)
    np.testing.assert_allclose(tape.gradient(scaled, kernel), expected, 1e-5)
    for value in [*result[1:], *quick]:
        assert tape.gradient(value, kernel) is None


@GRAPHS
@pytest.mark.parametrize("which", [0, 2, 3])
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_second_derivatives_are_refused(mode, which, batch):
    """By the head, by a projection, and by the kernel of a cluster."""
    y, hidden, weights = batch()
    weight = weights[which]

    def run():
        with tf.GradientTape() as outer:
            outer.watch(weight)
            with tf.GradientTape() as tape:
                tape.watch(weight)
                loss = chunked(y, hidden, weights)
            norm = ops.sum(tape.gradient(loss, weight) ** 2)
        return outer.gradient(norm, weight)

    run = run if mode == "eager" else tf.function(run, autograph=False)
    with pytest.raises(NotImplementedError, match="gradient of its gradient"):
        run()


def every_tensor(graph):
    """All tensors of a graph and of the functions in it."""
    for each in [graph, *graph._functions.values()]:
        for operation in getattr(each, "graph", each).get_operations():
            yield from operation.outputs


@GRAPHS
@pytest.mark.parametrize("gradients", [True, False])
def test_no_tensor_holds_the_largest_cluster_for_all_items(gradients, batch):
    rows, time, words, chunk = 16, 8, 600, 4
    y, hidden, weights = batch(2, (rows, time), [(3, words)])

    @tf.function(autograph=False)
    def run(y, hidden, weights):
        with tf.GradientTape() as tape:
            tape.watch(weights)
            loss = chunked(
                y, hidden, weights, chunk_size=chunk, gradients=gradients
            )
        return loss, tape.gradient(loss, weights)

    graph = run.get_concrete_function(
        ops.convert_to_tensor(y), hidden, weights
    ).graph
    sizes = [
        np.prod([size or 1 for size in tensor.shape])
        for tensor in every_tensor(graph)
        if tensor.shape.rank is not None
    ]
    assert 2 * chunk * words in sizes
    assert max(sizes) < rows * time * words / 4


def test_errors(batch):
    y, hidden, weights = batch()
    weights = assemble(weights)
    with pytest.raises(ValueError, match="two or more passes. Received: 1"):
        adaptive_rdrop_loss(y, hidden[:1], weights)
    with pytest.raises(ValueError, match=r"`labels` to have the shape \(3, 4"):
        adaptive_rdrop_loss(y[:, 1:], hidden, weights)
    with pytest.raises(ValueError, match=r"`mask` to have the shape \(3, 4"):
        adaptive_rdrop_loss(y, hidden, weights, mask=np.ones(BATCH))
    with pytest.raises(ValueError, match="Expected `chunk_size`"):
        adaptive_rdrop_loss(y, hidden, weights, chunk_size=0)
    with pytest.raises(ValueError, match="Expected `reduction`"):
        adaptive_rdrop_loss(y, hidden, weights, reduction=None)
