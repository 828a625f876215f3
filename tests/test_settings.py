"""Everything the paper varies, against NumPy in float64."""

import autodiff
import builders
import keras
import keras_hub
import numpy as np
import pytest
import reference
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses
from rdrop_keras.passes.dropout import dropout_at
from rdrop_keras.passes.dropout import stochastic_layers

ROWS, FEATURES, CLASSES = 6, 4, 3


def problem(rng, passes, sequence=False):
    shape = (ROWS, 5) if sequence else (ROWS,)
    x = rng.normal(size=(*shape, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, shape)
    masks = random_masks(rng, passes, ROWS, FEATURES)
    return x, y, masks


def linear_model(masks, **arguments):
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
    model = RDropModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.5), builders.cross_entropy(), **arguments
    )
    return model


def parameters(model):
    return [np.array(w, "float64") for w in model.trainable_weights]


def expected(parameters, x, y, masks, alpha):
    kernel, bias = parameters
    raw = [np.float64(x) * mask @ kernel + bias for mask in np.float64(masks)]
    return reference.objective("categorical", y, raw, alpha)


def step_from(parameters, x, y, masks, alpha):
    kernel, bias = parameters

    def of_kernel(k):
        return expected([k, bias], x, y, masks, alpha)[0]

    def of_bias(b):
        return expected([kernel, b], x, y, masks, alpha)[0]

    return [
        kernel - 0.5 * reference.gradient(of_kernel, kernel),
        bias - 0.5 * reference.gradient(of_bias, bias),
    ]


@pytest.mark.parametrize(
    "passes, mode",
    [
        (2, {"run_eagerly": True}),
        (3, {"jit_compile": True}),
        (4, {"jit_compile": False}),
        (6, {"run_eagerly": True}),
    ],
)
def test_any_number_of_passes(passes, mode, rng):
    x, y, masks = problem(rng, passes)
    model = linear_model(masks, rdrop=RDrop(3.0, num_passes=passes), **mode)
    before = parameters(model)
    loss, task_loss, consistency = expected(before, x, y, masks, 3.0)
    after = step_from(before, x, y, masks, 3.0)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    np.testing.assert_allclose(logs["task_loss"], task_loss, rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], consistency, rtol=1e-5)
    for actual, wanted in zip(parameters(model), after):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.only("tensorflow", "torch", reason="JAX has no float64 by default")
@pytest.mark.parametrize("passes", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "squared_error"])
def test_linear_form_equals_the_sum_over_pairs(kind, passes, rng):
    raw = rng.normal(size=(passes, 7, 5))
    keras.config.set_floatx("float64")
    try:
        options = {} if kind == "squared_error" else {"from_logits": True}
        function = getattr(losses, f"{kind}_consistency")
        value = np.asarray(function(list(raw), **options))
    finally:
        keras.config.set_floatx("float32")
    outputs = [reference.ACTIVATIONS[kind](o) for o in raw]
    # Keras averages in float32 on PyTorch.
    averaged = kind != "categorical" and keras.backend.backend() == "torch"
    np.testing.assert_allclose(
        value,
        reference.pairwise(kind, outputs),
        rtol=2e-7 if averaged else 1e-12,
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["graph", "xla", "eager"],
)
def test_every_second_update(settings, rng):
    x, y, masks = problem(rng, 6)
    model = linear_model(masks, rdrop=RDrop(4.0, every=2), **settings)
    # Updates 0 and 2 have two passes, 1 and 3 one: six masks in all.
    for turn, (first, last) in enumerate([(0, 2), (2, 3), (3, 5), (5, 6)]):
        used = masks[first:last]
        before = parameters(model)
        both = last - first == 2
        if both:
            wanted = expected(before, x, y, used, 4.0)
        else:
            raw = [np.float64(x) * used[0] @ before[0] + before[1]]
            output = reference.softmax(raw[0])
            task = reference.task_loss("categorical", y, output).mean()
            wanted = (task, task, 0.0)
        model.reset_metrics()
        logs = model.train_on_batch(x, y, return_dict=True)
        for key, value in zip(
            ("loss", "task_loss", "consistency_loss"), wanted
        ):
            np.testing.assert_allclose(logs[key], value, rtol=1e-5)
        assert int(model.layers[1].call_count) == last
        assert int(model.optimizer.iterations) == turn + 1
        if both:
            after = step_from(before, x, y, used, 4.0)
            for actual, value in zip(parameters(model), after):
                np.testing.assert_allclose(actual, value, rtol=1e-5, atol=1e-6)


def test_an_eager_update_runs_its_own_passes_alone(rng):
    calls = []

    class Counted(keras.layers.Dropout):
        def call(self, inputs, training=False):
            calls.append(training)
            return super().call(inputs, training=training)

    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(Counted(0.5)(inputs))
    model = RDropModel(inputs, outputs)
    model.compile(
        "sgd",
        builders.cross_entropy(),
        rdrop=RDrop(1.0, every=2, check_dropout=False),
        run_eagerly=True,
    )
    x, y, _ = problem(rng, 1)
    model.train_on_batch(x, y)
    counts = []
    for _ in range(4):
        calls.clear()
        model.train_on_batch(x, y)
        counts.append(len(calls))
    assert counts == [1, 2, 1, 2]


def test_plain_updates_between_are_keras_own(rng):
    """With identical passes, every k or not, training is plain."""
    x, y, mask = problem(rng, 1)
    masks = np.repeat(mask, 40, axis=0)
    histories = []
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = cls(inputs, outputs)
        arguments = {}
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(3.0, every=3, check_dropout=False)
        model.compile(
            "adam",
            builders.cross_entropy(),
            metrics=["accuracy"],
            **arguments,
        )
        histories.append(
            model.fit(x, y, batch_size=ROWS, epochs=7, verbose=0).history
        )
    for key, values in histories[0].items():
        np.testing.assert_allclose(histories[1][key], values, rtol=1e-5)


def test_every_counts_updates_under_gradient_accumulation(rng):
    x, y, masks = problem(rng, 20)
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
    model = RDropModel(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
        builders.cross_entropy(),
        rdrop=RDrop(1.0, every=2),
    )
    counts = []
    for _ in range(6):
        model.train_on_batch(x, y)
        counts.append(int(model.layers[1].call_count))
    # Two micro-batches with two passes, two with one, two with two.
    assert np.diff([0, *counts]).tolist() == [2, 2, 1, 1, 2, 2]


def test_every_keeps_masks_and_nested_outputs(rng):
    """The plain updates report what a plain model reports of padded data."""
    ids = rng.integers(1, 9, (8, 5))
    ids[:, 3:] = 0
    y = {"a": rng.integers(0, 3, (8, 5)), "b": rng.integers(0, 2, (8, 5))}
    mask = random_masks(rng, 1, 8, 4)
    logs = []
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((5,), dtype="int32")
        hidden = keras.layers.Embedding(9, 4, mask_zero=True)(inputs)
        hidden = ScriptedDropout(np.repeat(mask, 9, axis=0))(hidden)
        outputs = {
            "a": keras.layers.Dense(3, name="a")(hidden),
            "b": keras.layers.Dense(2, name="b")(hidden),
        }
        model = cls(inputs, outputs)
        loss = builders.cross_entropy()
        arguments = {}
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(1.0, every=2, check_dropout=False)
        model.compile(
            "sgd",
            {"a": loss, "b": loss},
            metrics={"a": ["accuracy"], "b": ["accuracy"]},
            **arguments,
        )
        model.train_on_batch(ids, y)
        model.reset_metrics()
        logs.append(model.train_on_batch(ids, y, return_dict=True))
    assert logs[0]["a_accuracy"] != logs[0]["b_accuracy"]
    if keras.backend.backend() == "jax":
        # Plain Keras loses the mask there: its accuracy counts padding.
        logs[0] = {k: v for k, v in logs[0].items() if "accuracy" not in k}
    for key, value in logs[0].items():
        np.testing.assert_allclose(logs[1][key], value, rtol=1e-5)


@pytest.mark.parametrize("every", [1, 2])
def test_every_of_several_outputs_without_a_compiled_loss(every, rng):
    x = rng.normal(size=(8, FEATURES)).astype("float32")
    results = []
    for base in (keras.Model, RDropModel):

        class Own(base):
            def __init__(self):
                super().__init__()
                self.heads = [keras.layers.Dense(n) for n in (2, 3)]

            def call(self, inputs, training=None):
                a, b = (head(inputs) for head in self.heads)
                return {"a": a, "b": b}

            def compute_loss(self, x, y, y_pred, weight=None, training=True):
                return sum(keras.ops.mean(y_pred[k] ** 2) for k in "ab")

        keras.utils.set_random_seed(2)
        model = Own()
        settings = RDrop(1.0, "squared_error", every=every, check_dropout=False)
        ours = {"rdrop": settings} if base is RDropModel else {}
        model.compile("sgd", **ours)
        history = model.fit(x, batch_size=2, epochs=2, verbose=0).history
        results.append([history["loss"], *map(np.array, model.weights)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    # The outputs have no names by which to tell their consistency apart.
    assert set(history) == {"loss", "task_loss", "consistency_loss"}


@pytest.mark.parametrize("kind", ["categorical", "bernoulli", "squared_error"])
@pytest.mark.parametrize("passes", [2, 3])
def test_stop_gradient_follows_constant_targets(kind, passes, rng):
    raw = rng.normal(size=(passes, 4, 3))
    options = {} if kind == "squared_error" else {"from_logits": True}
    function = getattr(losses, f"{kind}_consistency")
    tensors = [keras.ops.convert_to_tensor(o, "float32") for o in raw]
    value = function(tensors, stop_gradient=True, **options)
    np.testing.assert_allclose(value, function(tensors, **options), rtol=1e-6)
    gradients = autodiff.gradients(
        lambda *z: keras.ops.sum(function(z, stop_gradient=True, **options)),
        *raw.astype("float32"),
    )
    activate = reference.ACTIVATIONS[kind]
    constant = [activate(o) for o in raw]

    def one_sided(moving):
        total, pairs = 0.0, 0
        for i in range(passes):
            for j in range(passes):
                if i != j:
                    distance = reference.DISTANCES[kind]
                    total += distance(constant[i], activate(moving[j])).sum()
                    pairs += 1
        return total / pairs

    wanted = reference.gradient(one_sided, raw)
    np.testing.assert_allclose(gradients, wanted, rtol=1e-4, atol=1e-6)


def test_stop_gradient_in_training(rng):
    """The same values, half the gradient for the squared error."""
    x, _, masks = problem(rng, 2)
    y = np.zeros((ROWS, CLASSES), "float32")
    steps = []
    for stop_gradient in (False, True):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = RDropModel(inputs, outputs)
        model.compile(
            keras.optimizers.SGD(0.1),
            "mse",
            # A task loss of weight zero leaves the consistency alone.
            rdrop=RDrop(2.0, stop_gradient=stop_gradient),
        )
        before = parameters(model)
        logs = model.train_on_batch(x, y, return_dict=True)
        steps.append((before[0] - parameters(model)[0], logs))
    keras.utils.set_random_seed(4)
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
    model = RDropModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.1), "mse", rdrop=0.0)
    before = parameters(model)
    model.train_on_batch(x, y)
    task_step = before[0] - parameters(model)[0]
    assert steps[0][1] == steps[1][1]
    np.testing.assert_allclose(
        2 * (steps[1][0] - task_step),
        steps[0][0] - task_step,
        rtol=1e-3,
        atol=1e-6,
    )


class Rates(keras.layers.Dropout):
    """Drops nothing and remembers the rate of each training call."""

    seen = []

    def call(self, inputs, training=None):
        if training:
            self.seen.append(self.rate)
        return super().call(inputs, training=training)


def deep_model():
    inputs = keras.Input((6, 8))
    attention = keras.layers.MultiHeadAttention(2, 4, dropout=0.3)
    hidden = attention(inputs, inputs)
    hidden = keras.layers.LSTM(8, dropout=0.2, recurrent_dropout=0.1)(hidden)
    hidden = keras.Sequential(
        [Rates(0.4), keras.layers.Dropout(0.0, name="off")]
    )(hidden)
    return RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))


def test_each_pass_has_its_own_rate(rng):
    model = deep_model()
    before = [(layer.name, r) for layer, r in stochastic_layers(model)]
    model.compile(
        "sgd",
        builders.cross_entropy(),
        rdrop=RDrop(1.0, num_passes=3, dropout_rates=(0.1, 0.25, 0.6)),
        run_eagerly=True,
    )
    x = rng.normal(size=(8, 6, 8)).astype("float32")
    y = rng.integers(0, CLASSES, 8)
    Rates.seen = []
    logs = model.train_on_batch(x, y, return_dict=True)
    # At the model's own rate and at these the first batch was looked at.
    assert Rates.seen == [0.4, *[0.1, 0.25, 0.6] * 2]
    assert logs["consistency_loss"] > 0
    after = [(layer.name, r) for layer, r in stochastic_layers(model)]
    assert after == before


def test_rates_reach_every_active_layer_and_come_back():
    model = deep_model()
    before = [(layer.name, r) for layer, r in stochastic_layers(model)]
    with dropout_at(model, 0.55):
        rates = {
            f"{layer.name if layer.name == 'off' else type(layer).__name__}"
            f".{name}": value
            for layer, found in stochastic_layers(model)
            for name, value in found.items()
        }
    assert rates["Rates.rate"] == 0.55
    assert rates["off.rate"] == 0.0
    assert rates["Dropout.rate"] == 0.55
    assert rates["LSTMCell.dropout"] == 0.55
    assert rates["LSTMCell.recurrent_dropout"] == 0.55
    assert rates["MultiHeadAttention._dropout"] == 0.55
    with pytest.raises(RuntimeError), dropout_at(model, 0.55):
        raise RuntimeError
    assert [(layer.name, r) for layer, r in stochastic_layers(model)] == before


class Block(keras.layers.Layer):
    """Keeps numbers that are no dropout rates, but for its `Dropout`'s."""

    def __init__(self, draws=True, **kept):
        super().__init__()
        vars(self).update(kept)
        self.inner = keras.layers.Dropout(0.3)
        self.seeds = [keras.random.SeedGenerator(1)] if draws else []

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)


class OwnDropout(Block):
    def __init__(self, **kept):
        super().__init__(**kept)

    def call(self, inputs, training=None):
        if not training:
            return inputs
        return keras.random.dropout(inputs, self.dropout, seed=self.seeds[0])


class Model(RDropModel):
    """Draws itself."""

    def __init__(self, layers, rate):
        super().__init__()
        self.parts = layers
        self.dropout_rate = rate
        self.seed = keras.random.SeedGenerator(2)

    def call(self, inputs, training=None):
        for part in self.parts:
            inputs = part(inputs, training=training)
        return inputs


def test_what_else_is_called_a_rate_is_left_alone():
    kept = [
        Block(rate=2),
        Block(rate=2.0, dropout=1),
        Block(rate=True, dropout=-0.5),
        Block(draws=False, rate=2),
        # Its `Dropout` has the rate.
        Block(draws=False, rate=0.3),
    ]
    noise = keras.layers.GaussianNoise(0.2)
    drawing = [
        OwnDropout(dropout=0.2),
        keras.layers.SpatialDropout1D(0.2),
        keras.layers.GaussianDropout(0.2),
        keras.layers.Attention(dropout=0.2),
        keras_hub.layers.TransformerEncoder(8, 2, dropout=0.2),
    ]
    model = Model([*kept, noise, *drawing], 0.2)
    before = [dict(vars(layer)) for layer in kept]
    with dropout_at(model, 0.55):
        assert [dict(vars(layer)) for layer in kept] == before
        assert {block.inner.rate for block in kept} == {0.55}
        assert noise.stddev == 0.2
        assert model.dropout_rate == 0.55
        names = ("dropout", "rate", "rate", "dropout", "dropout")
        for layer, name in zip(drawing, names, strict=True):
            assert getattr(layer, name) == 0.55
    assert [block.inner.rate for block in kept] == [0.3] * 5
    assert model.dropout_rate == drawing[0].dropout == 0.2


def test_masks_of_a_pass_have_its_rate(rng):
    """The share of zeros in each pass, of 40,000 draws."""
    inputs = keras.Input((200,))
    model = RDropModel(inputs, keras.layers.Dropout(0.5)(inputs))
    outputs = []

    from rdrop_keras.passes.calls import run_calls

    x = np.ones((200, 200), "float32")
    outputs = [
        keras.ops.convert_to_numpy(output)
        for output in run_calls(
            model, lambda _: model(x, training=True), 2, (0.1, 0.7)
        )
    ]
    shares = [float(np.mean(output == 0)) for output in outputs]
    np.testing.assert_allclose(shares, [0.1, 0.7], atol=0.02)
    # Inverted dropout: what is kept is scaled by its own rate.
    np.testing.assert_allclose(np.max(outputs[0]), 1 / 0.9, rtol=1e-5)
    np.testing.assert_allclose(np.max(outputs[1]), 1 / 0.3, rtol=1e-5)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"num_passes": 1}, ValueError, "plain training: `rdrop=None`"),
        ({"num_passes": 2.0}, TypeError, "`num_passes` to be a whole number"),
        ({"num_passes": True}, TypeError, "`num_passes` to be a whole number"),
        ({"every": 0}, ValueError, "`every` to be at least 1"),
        ({"every": "2"}, TypeError, "`every` to be a whole number"),
        ({"dropout_rates": 0.3}, TypeError, "one number for each pass"),
        ({"dropout_rates": (0.3,)}, ValueError, "to be 2 rates"),
        ({"dropout_rates": (0.3, 1.0)}, ValueError, "below 1"),
        ({"dropout_rates": (0.3, -0.1)}, ValueError, "at least 0"),
        (
            {"dropout_rates": (0.1, 0.2), "num_passes": 3},
            ValueError,
            "to be 3 rates",
        ),
        ({"stop_gradient": 1}, TypeError, "`stop_gradient` to be True or"),
    ],
)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message):
        RDrop(**arguments)


def test_settings_survive_save_and_load(tmp_path):
    settings = RDrop(
        keras.optimizers.schedules.CosineDecay(2.0, 9),
        "categorical",
        num_passes=3,
        every=2,
        dropout_rates=[0.1, 0.2, 0.3],
        stop_gradient=True,
        check_dropout=False,
    )
    model = builders.functional()
    model.compile("adam", builders.cross_entropy(), rdrop=settings)
    x, y = builders.data()
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.rdrop.get_config() == settings.get_config()
    assert again.rdrop.dropout_rates == (0.1, 0.2, 0.3)
    assert "consistency_loss" in again.fit(x, y, verbose=0).history
