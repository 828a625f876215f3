"""Settings, models, masks, weights, policies and jit, drawn at random, against
the NumPy reference."""

import functools

import autodiff
import hypothesis
import keras
import numpy as np
import reference
from hypothesis import strategies as st
from packaging.version import Version
from scripted import ScriptedDropout

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses

TIME, FEATURES, CLASSES = 4, 3, 3
KINDS = ("categorical", "bernoulli", "squared_error")

# Before 3.13 Keras loses masks where it casts what they belong to.
CASTS_KEEP_MASKS = Version(keras.__version__) >= Version("3.13")
POLICIES = ["float32"] + (["mixed_bfloat16"] if CASTS_KEEP_MASKS else [])

cases = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "build": st.sampled_from(["functional", "subclassed"]),
        "sequence": st.booleans(),
        "rows": st.integers(1, 5),
        "passes": st.integers(2, 5),
        "way": st.sampled_from(["calls", "concat"]),
        "alpha": st.one_of(st.just(0.0), st.floats(0.01, 20.0)),
        "scheduled": st.booleans(),
        "stop_gradient": st.booleans(),
        "masked": st.booleans(),
        "weights": st.sampled_from([None, "rows", "items", "zeros"]),
        "activation": st.booleans(),
        "reduction": st.sampled_from(
            ["sum_over_batch_size", "sum", "mean_with_sample_weight"]
        ),
        "policy": st.sampled_from(POLICIES),
        "jit": st.sampled_from([False] * 11 + [True]),
        "seed": st.integers(0, 2**31 - 1),
    }
)


class Own(RDropModel):
    """The graph of `make_model` as a subclass."""

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.stack = layers

    def call(self, inputs, training=None):
        for layer in self.stack:
            if isinstance(layer, ScriptedDropout):
                inputs = layer(inputs, training=training)
            else:
                inputs = layer(inputs)
        return inputs


def make_model(case, masks):
    activation = {"categorical": "softmax", "bernoulli": "sigmoid"}
    head = keras.layers.Dense(
        CLASSES,
        # The head alone in float32, so that NumPy can follow exactly.
        dtype="float32",
        activation=activation.get(case["kind"]) if case["activation"] else None,
    )
    masking = [keras.layers.Masking()] if case["sequence"] else []
    stack = [*masking, ScriptedDropout(masks, dtype="float32"), head]
    if case["build"] == "subclassed":
        return Own(stack)
    shape = (TIME, FEATURES) if case["sequence"] else (FEATURES,)
    inputs = keras.Input(shape)
    return RDropModel(
        inputs, functools.reduce(lambda x, f: f(x), stack, inputs)
    )


def make_loss(case):
    arguments = {"reduction": case["reduction"]}
    if case["kind"] != "squared_error":
        arguments["from_logits"] = not case["activation"]
    return {
        "categorical": keras.losses.SparseCategoricalCrossentropy,
        "bernoulli": keras.losses.BinaryCrossentropy,
        "squared_error": keras.losses.MeanSquaredError,
    }[case["kind"]](**arguments)


def make_data(case, rng):
    rows = case["rows"]
    shape = (rows, TIME) if case["sequence"] else (rows,)
    # Of few bits, none zero: exact in bfloat16, and no row is padding.
    x = rng.choice([-2.0, -0.75, -0.25, 0.5, 1.0, 1.5], (*shape, FEATURES))
    x = x.astype("float32")
    mask = None
    if case["sequence"]:
        lengths = rng.integers(
            0 if case["masked"] else TIME, TIME + 1, (rows, 1)
        )
        mask = np.arange(TIME) < lengths
        x[~mask] = 0.0
    y = {
        "categorical": lambda: rng.integers(0, CLASSES, shape),
        "bernoulli": lambda: rng.integers(0, 2, (*shape, CLASSES)) * 1.0,
        "squared_error": lambda: rng.normal(size=(*shape, CLASSES)),
    }[case["kind"]]()
    rows_only = (rows, 1) if case["sequence"] else (rows,)
    weights = {
        None: lambda: None,
        "rows": lambda: rng.random(rows_only).astype("float32"),
        "items": lambda: rng.random(shape).astype("float32"),
        "zeros": lambda: np.zeros(rows_only, "float32"),
    }[case["weights"]]()
    keep = rng.random((case["passes"], rows, FEATURES)) >= 0.4
    return x, y, weights, mask, (keep / 0.6).astype("float32")


def rescaled(case, value, weights, mask, shape):
    """From the mean over valid items to the reduction of the case."""
    valid = np.ones(shape) if mask is None else mask * 1.0
    if case["reduction"] == "sum":
        return value * valid.sum()
    if case["reduction"] == "mean_with_sample_weight" and (
        weights is not None or mask is not None
    ):
        weights = np.ones(shape) if weights is None else np.float64(weights)
        while weights.ndim < valid.ndim:
            weights = weights[..., None]
        total = (weights * valid).sum()
        return value * valid.sum() / total if total else 0.0
    return value


@hypothesis.settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)
@hypothesis.given(cases)
def test_loss_and_gradient_equal_numpy(case):
    rng = np.random.default_rng(case["seed"])
    x, y, weights, mask, masks = make_data(case, rng)
    keras.config.set_dtype_policy(case["policy"])
    keras.utils.set_random_seed(case["seed"])
    given_masks = masks
    if case["way"] == "concat":
        given_masks = np.concatenate(masks)[None]
    model = make_model(case, given_masks)
    model(x)
    alpha = case["alpha"]
    if case["scheduled"]:
        alpha = keras.optimizers.schedules.PiecewiseConstantDecay(
            [1000], [case["alpha"], 99.0]
        )
    model.compile(
        keras.optimizers.SGD(0.1),
        make_loss(case),
        rdrop=RDrop(
            alpha,
            num_passes=case["passes"],
            passes=case["way"],
            stop_gradient=case["stop_gradient"],
        ),
    )
    kernel, bias = model.trainable_weights

    # PyTorch would compile for a minute.
    jit = case["jit"] and "xla" in autodiff.MODES
    loss, gradients = autodiff.by_variables(
        lambda: model.compute_rdrop_loss(x, y, weights)[0],
        [kernel, bias],
        "xla" if jit else "eager",
    )

    shape = x.shape[:-1]
    kind = case["kind"]
    activate = reference.ACTIVATIONS[kind]
    start = np.concatenate(
        [np.array(kernel, "float64"), np.array(bias, "float64")[None]]
    )

    def raw_of(values):
        lifted = np.float64(masks).reshape(
            len(masks), len(x), *[1] * (x.ndim - 2), FEATURES
        )
        return [np.float64(x) * m @ values[:-1] + values[-1] for m in lifted]

    fixed = [activate(o) for o in raw_of(start)]

    def objective(values):
        outputs = [activate(o) for o in raw_of(values)]
        tasks = [
            reference.reduce(reference.task_loss(kind, y, o), weights, mask)
            for o in outputs
        ]
        if case["stop_gradient"]:
            distance = reference.DISTANCES[kind]
            pairs = [
                distance(fixed[i], outputs[j])
                for i in range(len(outputs))
                for j in range(len(outputs))
                if i != j
            ]
            divergence = np.mean(pairs, axis=0)
        else:
            divergence = reference.pairwise(kind, outputs)
        consistency = reference.reduce(divergence, weights, mask)
        value = (sum(tasks) + case["alpha"] * consistency) / len(outputs)
        return rescaled(case, value, weights, mask, shape)

    np.testing.assert_allclose(loss, objective(start), rtol=2e-5, atol=1e-6)
    expected = reference.gradient(objective, start)
    actual = np.concatenate([gradients[0], gradients[1][None]])
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(
        actual / scale, expected / scale, rtol=1e-4, atol=2e-5
    )


@hypothesis.settings(max_examples=200, deadline=None, derandomize=True)
@hypothesis.given(
    kind=st.sampled_from(KINDS),
    passes=st.integers(2, 6),
    classes=st.integers(2, 40),
    scale=st.sampled_from([1e-4, 1e-2, 1.0, 30.0, 1e4]),
    seed=st.integers(0, 2**31 - 1),
)
def test_divergences_hold_at_every_scale(kind, passes, classes, scale, seed):
    """Never negative, never NaN, and zero for equal outputs."""
    rng = np.random.default_rng(seed)
    raw = (rng.normal(size=(passes, 3, classes)) * scale).astype("float32")
    options = {} if kind == "squared_error" else {"from_logits": True}
    function = getattr(losses, f"{kind}_consistency")
    value = np.asarray(function(list(raw), **options))
    assert (value >= 0).all()
    same = np.asarray(function([raw[0]] * passes, **options))
    np.testing.assert_array_equal(same, 0.0)
    order = list(reversed(list(raw)))
    np.testing.assert_allclose(
        function(order, **options), value, rtol=1e-3, atol=1e-9 + 1e-6 * scale
    )
