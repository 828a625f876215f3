"""Task loss and consistency together: the same as one after the other."""

import functools

import builders
import keras
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.objective import fusion

BATCH, TIME, FEATURES, CLASSES = 6, 4, 5, 3
SPARSE = keras.losses.SparseCategoricalCrossentropy
OTHER_DTYPE = "float16" if keras.backend.backend() == "jax" else "float64"
DENSE = keras.losses.CategoricalCrossentropy


@pytest.fixture(autouse=True)
def fused_calls(monkeypatch):
    """What was asked for in closed form, at each trace of a step."""
    calls = []
    original = fusion.fused_values

    def record(*args, **kwargs):
        calls.append(args)
        return original(*args, **kwargs)

    monkeypatch.setattr(fusion, "fused_values", record)
    return calls


def build(masks, activation=None, regularizer=None, dtype=None):
    inputs = keras.Input((TIME, FEATURES))
    hidden = keras.layers.Masking()(inputs)
    hidden = ScriptedDropout(masks, dtype=dtype)(hidden)
    head = keras.layers.Dense(
        CLASSES,
        activation,
        kernel_initializer=keras.initializers.RandomNormal(seed=5),
        kernel_regularizer=regularizer,
        activity_regularizer=regularizer,
        dtype=dtype,
    )
    return RDropModel(inputs, head(hidden))


def batch(rng, dense=False, ignored=None):
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype("float32")
    x[1, 2:] = 0.0
    y = rng.integers(0, CLASSES, (BATCH, TIME))
    if dense:
        y = rng.dirichlet(np.ones(CLASSES), y.shape).astype("float32")
    elif ignored is not None:
        y[0, :2] = ignored
    return x, y, rng.random((BATCH, TIME)).astype("float32")


def steps(loss, data, masks, calls, rdrop=None, jit_compile=False, **kwargs):
    """Returns logs and weights after a step, fused and not."""
    results = []
    for fused in (True, False):
        calls.clear()
        model = build(masks, **kwargs)
        settings = RDrop(5.0, fused=fused, **(rdrop or {}))
        model.compile(
            keras.optimizers.SGD(0.5),
            loss,
            rdrop=settings,
            jit_compile=jit_compile and fused,
            # The reference needs no graph.
            run_eagerly=not fused,
        )
        logs = model.train_on_batch(*data, return_dict=True)
        assert bool(calls) == fused
        results.append((logs, [np.array(w) for w in model.weights]))
    return results


def assert_same(results, rtol=1e-5, atol=1e-6):
    (logs, weights), (other_logs, other_weights) = results
    assert logs.keys() == other_logs.keys()
    for name, value in logs.items():
        np.testing.assert_allclose(value, other_logs[name], rtol=rtol)
    for weight, other in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(weight, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "loss, activation",
    [
        (SPARSE(from_logits=True, ignore_class=-1), None),
        (SPARSE(from_logits=True, ignore_class=1, reduction="sum"), None),
        (SPARSE(), "softmax"),
        ("sparse_categorical_crossentropy", "softmax"),
        (DENSE(from_logits=True), None),
        (DENSE(from_logits=True, label_smoothing=0.2), None),
        ("categorical_crossentropy", "softmax"),
        (LabelSmoothedCrossentropy(0.2, ignore_class=0), None),
        (
            LabelSmoothedCrossentropy(reduction="mean_with_sample_weight"),
            None,
        ),
    ],
)
def test_same_as_one_after_the_other(loss, activation, rng, fused_calls):
    dense = loss == "categorical_crossentropy" or isinstance(loss, DENSE)
    ignored = getattr(loss, "ignore_class", None)
    results = steps(
        loss,
        batch(rng, dense, ignored),
        random_masks(rng, 2, BATCH, FEATURES),
        fused_calls,
        activation=activation,
        regularizer=keras.regularizers.L2(0.1),
    )
    assert_same(results)


@pytest.mark.only("tensorflow", "jax", reason="PyTorch has no XLA here")
def test_compiled_by_xla(rng, fused_calls):
    results = steps(
        SPARSE(from_logits=True, ignore_class=-1),
        batch(rng, ignored=-1),
        random_masks(rng, 2, BATCH, FEATURES),
        fused_calls,
        jit_compile=True,
    )
    assert_same(results)


@pytest.mark.parametrize(
    "rdrop",
    [
        {"num_passes": 3},
        {"stop_gradient": True},
        {"passes": "concat"},
        {"unlabeled": -1, "unlabeled_weight": 0.5},
    ],
)
def test_settings(rdrop, rng, fused_calls):
    passes = rdrop.get("num_passes", 2)
    masks = random_masks(rng, passes, BATCH, FEATURES)
    if rdrop.get("passes") == "concat":
        masks = masks.reshape(1, passes * BATCH, FEATURES)
    results = steps(
        SPARSE(from_logits=True, ignore_class=-1),
        batch(rng, ignored=-1),
        masks,
        fused_calls,
        rdrop,
    )
    assert_same(results)


def test_half_precision(rng, fused_calls):
    results = steps(
        SPARSE(from_logits=True),
        batch(rng),
        random_masks(rng, 2, BATCH, FEATURES),
        fused_calls,
        dtype="mixed_float16",
    )
    assert_same(results, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize(
    "policy, ignore_class, lost",
    [
        ("float32", None, False),
        ("float32", -1, True),
        ("mixed_float16", None, True),
        ("mixed_bfloat16", None, True),
    ],
)
def test_a_saturated_softmax_is_exact_where_it_is_fused(
    policy, ignore_class, lost
):
    """Keras clips probabilities at 1e-7 where it has lost the logits."""
    logits = np.array([[[40.0, 0.0, 10.0]], [[10.0, 0.0, 10.0]]])
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    of_passes = -log_p[:, 0, 1]
    assert of_passes[0] > 39 and of_passes[1] < 11
    gap = log_p[0, 0] - log_p[1, 0]
    divergence = ((np.exp(log_p[0, 0]) - np.exp(log_p[1, 0])) * gap).sum() / 2
    clipped = np.minimum(of_passes, -np.log(1e-7))
    for fused in (True, False):
        keras.config.set_dtype_policy(policy)
        try:
            inputs = keras.Input((3,))
            masks = [[[1.0, 1.0, 1.0]], [[0.25, 1.0, 1.0]]]
            hidden = ScriptedDropout(masks)(inputs)
            outputs = keras.layers.Activation("softmax")(hidden)
            model = RDropModel(inputs, outputs)
        finally:
            keras.config.set_dtype_policy("float32")
        model.compile(
            "sgd",
            keras.losses.SparseCategoricalCrossentropy(
                ignore_class=ignore_class
            ),
            rdrop=RDrop(2.0, fused=fused),
        )
        found, _ = model.compute_rdrop_loss(
            logits[0].astype("float32"), np.array([1])
        )
        # Elsewhere Keras's crossentropy does not look for the logits.
        clips = lost or keras.backend.backend() != "tensorflow"
        task_loss = (clipped if clips and not fused else of_passes).mean()
        np.testing.assert_allclose(
            found, task_loss + divergence, rtol=1e-5 if fused else 1e-3
        )


def test_several_outputs_and_their_metrics(rng, fused_calls):
    masks = random_masks(rng, 2, BATCH, FEATURES)
    x = rng.normal(size=(BATCH, FEATURES)).astype("float32")
    y = {
        "kind": rng.integers(0, CLASSES, BATCH),
        "size": rng.normal(size=(BATCH, 1)).astype("float32"),
    }
    results = []
    for fused in (True, False):
        fused_calls.clear()
        inputs = keras.Input((FEATURES,))
        hidden = ScriptedDropout(masks)(inputs)

        def head(units, name, hidden=hidden):
            return keras.layers.Dense(
                units,
                name=name,
                kernel_initializer=keras.initializers.RandomNormal(seed=units),
            )(hidden)

        model = RDropModel(
            inputs, {"kind": head(CLASSES, "kind"), "size": head(1, "size")}
        )
        model.compile(
            keras.optimizers.SGD(0.5),
            {"kind": SPARSE(from_logits=True), "size": "mse"},
            loss_weights={"kind": 2.0, "size": 0.5},
            rdrop=RDrop({"kind": 5.0, "size": 1.0}, fused=fused),
        )
        logs = model.train_on_batch(x, y, return_dict=True)
        assert bool(fused_calls) == fused
        results.append((logs, [np.array(w) for w in model.weights]))
    assert {"kind_loss", "size_loss"} <= results[0][0].keys()
    assert_same(results)


def test_metrics_of_outputs_count_each_step_once(rng):
    """Building the compiled loss inside the step feeds them nothing."""
    model = RDropModel.from_model(
        keras.Sequential(
            [keras.layers.Dropout(0.5, seed=1), keras.layers.Dense(2)]
        )
    )
    model.compile("sgd", "mse", rdrop=1.0)
    x = rng.normal(size=(8, 3)).astype("float32")
    loss, _ = model.compute_rdrop_loss(x, np.zeros((8, 2), "float32"))
    assert np.array(loss) > 0
    assert model._compile_loss.built
    for metric in model._compile_loss.metrics:
        assert float(metric.result()) == 0.0


class Halved(keras.losses.SparseCategoricalCrossentropy):
    def call(self, y_true, y_pred):
        return 0.5 * super().call(y_true, y_pred)


class OwnLoss(builders.Subclassed):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return 0.5 * super().compute_loss(x, y, y_pred, sample_weight)


@pytest.mark.parametrize(
    "model, loss",
    [
        (builders.functional, Halved(from_logits=True)),
        (OwnLoss, SPARSE(from_logits=True)),
        (
            builders.functional,
            keras.losses.CategoricalFocalCrossentropy(from_logits=True),
        ),
        (
            builders.functional,
            SPARSE(from_logits=True, dtype=OTHER_DTYPE),
        ),
        (
            builders.functional,
            functools.partial(
                keras.losses.sparse_categorical_crossentropy,
                from_logits=True,
                ignore_class=1,
            ),
        ),
    ],
)
def test_what_may_differ_is_left_to_the_loss(model, loss, rng, fused_calls):
    x, y = builders.data()
    model = model()
    model.compile("sgd", loss, rdrop=RDrop(1.0, divergence="categorical"))
    if isinstance(loss, keras.losses.CategoricalFocalCrossentropy):
        y = keras.utils.to_categorical(y, builders.CLASSES)
    logs = model.train_on_batch(x, y, return_dict=True)
    if isinstance(loss, Halved) or isinstance(model, OwnLoss):
        plain = SPARSE(from_logits=True)(y, model.predict(x, verbose=0))
        # Of a step at learning rate 0.01, and without dropout.
        assert logs["task_loss"] < 0.75 * float(plain)
    assert not fused_calls
    assert "closed form" not in model.rdrop_plan()


@pytest.mark.only("tensorflow", reason="takes two gradient tapes")
def test_a_second_derivative_takes_the_long_way():
    import tensorflow as tf

    x, y = builders.data()
    for fused in (True, False):
        model = builders.functional()
        model.compile("sgd", builders.cross_entropy(), rdrop=RDrop(fused=fused))
        kernel = model.trainable_weights[-2].value
        with tf.GradientTape() as outer:
            with tf.GradientTape() as tape:
                loss, _ = model.compute_rdrop_loss(x, y)
            (gradient,) = tape.gradient(loss, [kernel])
            norm = tf.reduce_sum(gradient**2)
        if fused:
            with pytest.raises(NotImplementedError, match="fused=False"):
                outer.gradient(norm, kernel)
        else:
            assert np.abs(outer.gradient(norm, kernel)).max() > 1e-6


@pytest.mark.only("tensorflow", reason="NaN elsewhere")
def test_a_label_that_is_no_class_is_named():
    import tensorflow as tf

    x, y = builders.data()
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=1.0)
    y[3] = builders.CLASSES
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="3 (is not|which is)"
    ):
        model.fit(x, y, verbose=0)
