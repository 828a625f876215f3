"""What comes before the first dropout runs once, and nothing else changes."""

import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel
from rdrop_keras.passes.shared_prefix import cut

ROWS, CLASSES = 12, 3


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def cnn():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(4, 3)(inputs)
    x = keras.layers.BatchNormalization(momentum=0.5)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.ops.relu(x))
    x = keras.layers.Dropout(0.4)(x)
    return RDropModel(inputs, keras.layers.Dense(CLASSES)(x))


class MixedSequential(RDropMixin, keras.Sequential):
    pass


def sequential():
    return MixedSequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3, kernel_regularizer="l2"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.4),
            keras.layers.Dense(CLASSES),
        ]
    )


def masked_attention():
    """The mask has to reach attention, pooling and the loss in each pass."""
    tokens = keras.Input((6,), dtype="int32")
    x = keras.layers.Embedding(9, 8, mask_zero=True)(tokens)
    x = keras.layers.Dense(8)(x)
    x = keras.layers.MultiHeadAttention(2, 4, dropout=0.3)(x, x)
    return RDropModel(tokens, keras.layers.Dense(CLASSES)(x))


def branches():
    """Inputs and outputs in dicts; a layer used before and after dropout."""
    first = keras.Input((5,), name="first")
    second = keras.Input((5,), name="second")
    shared = keras.layers.Dense(5)
    one = keras.layers.Dropout(0.4)(shared(first))
    two = keras.layers.Dense(5)(second)
    outputs = {
        "label": keras.layers.Dense(CLASSES)(shared(one) + two),
        # No dropout reaches this one.
        "value": keras.layers.Dense(1)(two),
    }
    return RDropModel({"first": first, "second": second}, outputs)


def data_of(name, rng):
    if name == "masked_attention":
        x = rng.integers(1, 9, (ROWS, 6))
        x[np.arange(6) >= rng.integers(1, 7, (ROWS, 1))] = 0
        return x, rng.integers(0, CLASSES, (ROWS, 6))
    labels = rng.integers(0, CLASSES, ROWS)
    if name == "branches":
        x = {
            key: rng.normal(size=(ROWS, 5)).astype("float32")
            for key in ("first", "second")
        }
        value = rng.normal(size=(ROWS, 1)).astype("float32")
        return x, {"label": labels, "value": value}
    return rng.normal(size=(ROWS, 8, 8, 2)).astype("float32"), labels


BUILDERS = {
    function.__name__: function
    for function in (cnn, sequential, masked_attention, branches)
}


def trained(build, x, y, rdrop, **kwargs):
    keras.utils.set_random_seed(5)
    model = build()
    loss = cross_entropy()
    if isinstance(y, dict):
        loss = {"label": loss, "value": "mse"}
    model.compile(keras.optimizers.SGD(0.3), loss, rdrop=rdrop, **kwargs)
    logs = [model.train_on_batch(x, y, return_dict=True) for _ in range(3)]
    return model, logs


@pytest.mark.parametrize(
    "name, jit_compile",
    [*((name, False) for name in BUILDERS), ("masked_attention", True)],
)
def test_same_steps_as_calls(name, jit_compile, rng):
    """Dropout draws the same masks: the prefix draws none."""
    x, y = data_of(name, rng)
    results = []
    for passes in ("calls", "shared_prefix"):
        rdrop = RDrop(
            2.0,
            num_passes=3,
            passes=passes,
            # What the prefix leaves anyway.
            moving_statistics="first_pass",
        )
        model, logs = trained(
            BUILDERS[name], x, y, rdrop, jit_compile=jit_compile
        )
        results.append((model.get_weights(), logs))
    (weights, logs), (shared_weights, shared_logs) = results
    # The masks of another release of Keras may differ less.
    assert logs[-1]["consistency_loss"] > 1e-5
    for one, other in zip(logs, shared_logs):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_allclose(other[key], one[key], rtol=2e-5)
    for one, other in zip(weights, shared_weights):
        np.testing.assert_allclose(other, one, atol=2e-6)


def test_dropout_rates_and_every(rng):
    x, y = data_of("cnn", rng)
    results = []
    for passes in ("calls", "shared_prefix"):
        rdrop = RDrop(
            2.0,
            every=2,
            passes=passes,
            dropout_rates=(0.1, 0.6),
            moving_statistics="first_pass",
        )
        results.append(trained(cnn, x, y, rdrop)[0].get_weights())
    for one, other in zip(*results):
        np.testing.assert_allclose(other, one, atol=2e-6)


def convolutions(model, x, y):
    import tensorflow as tf

    @tf.function(autograph=False)
    def loss():
        return model.compute_rdrop_loss(x, y)[0]

    graph = loss.get_concrete_function().graph
    return sum(op.type == "Conv2D" for op in graph.get_operations())


@pytest.mark.only("tensorflow", reason="reads the graph of a step")
def test_the_prefix_is_in_the_graph_once(rng):
    x, y = data_of("cnn", rng)
    counts = {}
    for passes in ("calls", "shared_prefix"):
        model = cnn()
        model.compile("sgd", cross_entropy(), rdrop=RDrop(1.0, passes=passes))
        counts[passes] = convolutions(model, x, y)
    assert counts == {"calls": 2, "shared_prefix": 1}


def test_batch_normalization_advances_as_in_plain_training(rng):
    x, y = data_of("cnn", rng)
    rdrop = RDrop(0.0, passes="shared_prefix")
    keras.utils.set_random_seed(5)
    plain = cnn()
    plain.compile(keras.optimizers.SGD(0.0), cross_entropy(), rdrop=None)
    keras.utils.set_random_seed(5)
    once = cnn()
    once.compile(keras.optimizers.SGD(0.0), cross_entropy(), rdrop=rdrop)
    for model in (plain, once):
        model.train_on_batch(x, y)
    for one, other in zip(plain.layers, once.layers):
        if isinstance(one, keras.layers.BatchNormalization):
            np.testing.assert_allclose(one.moving_mean, other.moving_mean)
            assert np.abs(one.moving_mean).max() > 0


def frontier_of(*layers):
    inputs = keras.Input((8, 8, 2))
    outputs = inputs
    for layer in layers:
        outputs = layer(outputs)
    found = cut(RDropModel(inputs, outputs))
    return None if found is None else (found.frontier, found.stochastic)


class Unknown(keras.layers.Layer):
    def call(self, inputs):
        return inputs


def noisy_model():
    return keras.Sequential(
        [
            keras.Input((None, None, None)),
            keras.layers.ReLU(),
            keras.layers.SpatialDropout2D(0.1),
        ],
        name="stochastic",
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.layers.Dropout(0.1, name="stochastic"),
        lambda: keras.layers.GaussianNoise(0.1, name="stochastic"),
        lambda: keras.layers.AlphaDropout(0.1, name="stochastic"),
        lambda: keras.layers.RandomFlip(name="stochastic"),
        lambda: keras.layers.RandomTranslation(0.1, 0.1, name="stochastic"),
        lambda: keras.layers.Lambda(lambda x: x, name="stochastic"),
        lambda: Unknown(name="stochastic"),
        noisy_model,
    ],
)
def test_frontier_is_before_whatever_may_be_random(make):
    conv = keras.layers.Conv2D(4, 3, name="conv")
    after = keras.layers.Conv2D(4, 1)
    assert frontier_of(conv, make(), after) == (["conv"], "stochastic")
    # Nothing is left to share if it comes first.
    assert frontier_of(make(), conv) is None


def test_frontier_goes_past_what_is_off():
    frozen = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            keras.layers.Conv2D(4, 3),
            keras.layers.Dropout(0.0),
        ],
        name="backbone",
    )
    off = keras.layers.GaussianNoise(0.0, name="off")
    dropout = keras.layers.Dropout(0.2, name="drop")
    assert frontier_of(frozen, off, dropout) == (["off"], "drop")


def test_every_tensor_that_crosses_is_named():
    model = branches()
    found = cut(model)
    assert found.stochastic.startswith("dropout")
    assert len(found.frontier) == 2
    # And the layers still have one output each, as before.
    assert model.layers[-1].output is not None
    assert sum(found.fixed) == 3


def test_a_backbone_called_in_inference_mode_is_not_shared():
    """Its dropout is on in `fit` all the same."""
    inner = keras.Input((4,))
    backbone = keras.Model(inner, keras.layers.Dropout(0.5)(inner))
    backbone.trainable = False
    inputs = keras.Input((4,))
    features = keras.layers.Dense(4, kernel_initializer="identity")(
        backbone(inputs, training=False)
    )
    hidden = keras.layers.Dropout(0.1)(features)
    model = RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))
    assert cut(model) is None
    seen = keras.Model(inputs, features)(np.ones((9, 4)), training=True)
    assert (np.array(seen) == 0).any()


def test_activity_regularizers_are_not_shared():
    regularized = keras.layers.Conv2D(
        4, 3, activity_regularizer="l2", name="stochastic"
    )
    pool = keras.layers.MaxPooling2D(name="pool")
    dropout = keras.layers.Dropout(0.1)
    assert frontier_of(pool, regularized, dropout) == (["pool"], "stochastic")


def test_keras_applications_are_one_prefix():
    backbone = keras.applications.MobileNet(
        input_shape=(32, 32, 3), include_top=False, weights=None, pooling="avg"
    )
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Dropout(0.2)(backbone(inputs))
    found = cut(RDropModel(inputs, keras.layers.Dense(2)(x)))
    assert found.frontier == [backbone.name]


def test_plan_says_where():
    model = cnn()
    model.compile(
        "sgd", cross_entropy(), rdrop=RDrop(1.0, passes="shared_prefix")
    )
    pooling, dropout = model.layers[-3].name, model.layers[-2].name
    assert model.rdrop_plan().startswith(
        f"2 passes as separate runs from {pooling} on, what comes before once; "
        f"first stochastic layer: {dropout}; alpha 1"
    )


class Plain(RDropModel):
    def __init__(self):
        super().__init__()
        self.dropout = keras.layers.Dropout(0.4)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        return self.head(self.dropout(inputs, training=training))


def test_auto_shares_where_there_is_something_to_share():
    def planned(model):
        model.compile("sgd", cross_entropy(), rdrop=1.0)
        return model.rdrop_plan()

    assert "what comes before once" in planned(cnn())
    inputs = keras.Input((4,))
    hidden = keras.layers.Dropout(0.1)(inputs)
    model = RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))
    assert planned(model).startswith("2 passes as separate calls; alpha 1")


@pytest.mark.parametrize("known", [False, True])
def test_auto_looks_at_a_sequential_model_once_it_is_built(known, rng):
    x, y = data_of("cnn", rng)
    layers = [
        keras.layers.Conv2D(4, 3),
        keras.layers.Flatten(),
        keras.layers.Dropout(0.4),
        keras.layers.Dense(CLASSES),
    ]
    model = MixedSequential([keras.Input(x.shape[1:])] * known + layers)
    model.compile("sgd", cross_entropy(), rdrop=1.0)
    plan = "runs from flatten" if known else "unless the first batch shows"
    assert plan in model.rdrop_plan()
    model.fit(x, y, verbose=0)
    assert "runs from flatten" in model.rdrop_plan()
    if keras.backend.backend() == "tensorflow":
        assert convolutions(model, x, y) == 1


# --- compute_once ------------------------------------------------------------


class Encoded(RDropModel):
    def __init__(self, regularizer=None):
        super().__init__()
        self.encoder = keras.layers.Dense(
            6, "relu", activity_regularizer=regularizer
        )
        self.dropout = keras.layers.Dropout(0.4)
        self.head = keras.layers.Dense(CLASSES)

    def call(self, inputs, training=None):
        features = self.compute_once(self.encoder, inputs)
        return self.head(self.dropout(features, training=training))


def vectors(rng):
    x = rng.normal(size=(ROWS, 5)).astype("float32")
    return x, rng.integers(0, CLASSES, ROWS)


@pytest.mark.parametrize("cls", [Plain, Encoded])
def test_first_batch_shows_whether_compute_once_is_used(cls, rng):
    model = cls()
    model.compile("sgd", cross_entropy(), rdrop=1.0)
    assert model.rdrop_plan().startswith(
        "2 passes as separate calls, unless the first batch shows something "
        "to share; alpha 1"
    )
    model.train_on_batch(*vectors(rng))
    shared = " that share what `compute_once` computes"
    assert model.rdrop_plan().startswith(
        f"2 passes as separate calls{shared * (cls is Encoded)}; alpha 1"
    )


@pytest.mark.parametrize("eager", [False, True])
def test_compute_once_gives_the_same_steps(eager, rng):
    x, y = vectors(rng)
    results = []
    for passes in ("calls", "shared_prefix"):
        model, _ = trained(
            Encoded, x, y, RDrop(2.0, passes=passes), run_eagerly=eager
        )
        results.append(model.get_weights())
        # And evaluation is not touched.
        expected = model.head(model.encoder(x))
        np.testing.assert_allclose(
            model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6
        )
    for one, other in zip(*results):
        np.testing.assert_allclose(other, one, atol=2e-6)


def test_compute_once_computes_once(rng):
    x, y = vectors(rng)
    counts = {}
    for passes in ("calls", "shared_prefix"):
        calls = []

        class Counted(Encoded):
            def call(self, inputs, training=None, calls=calls):
                def encode():
                    calls.append(training)
                    return self.encoder(inputs)

                hidden = self.compute_once(encode)
                return self.head(self.dropout(hidden, training=training))

        model = Counted()
        rdrop = RDrop(1.0, passes=passes)
        model.compile("sgd", cross_entropy(), rdrop=rdrop, run_eagerly=True)
        # The first batch is looked at before it is trained on.
        model.train_on_batch(x, y)
        calls.clear()
        model.train_on_batch(x, y)
        counts[passes] = calls
    assert counts == {"calls": [True, True], "shared_prefix": [True]}


def test_what_cannot_be_shared_is_refused(rng):
    x, y = vectors(rng)

    def step(model):
        model.compile(
            "sgd", cross_entropy(), rdrop=RDrop(1.0, passes="shared_prefix")
        )
        model(x)
        before = model.get_weights()
        with pytest.raises(ValueError) as error:
            model.train_on_batch(x, y)
        for old, new in zip(before, model.get_weights()):
            np.testing.assert_array_equal(old, new)
        return str(error.value)

    class Nothing(Encoded):
        def call(self, inputs, training=None):
            hidden = self.dropout(self.encoder(inputs), training=training)
            return self.head(hidden)

    assert "Expected something that all passes can share" in step(Nothing())
    message = step(Encoded(regularizer="l2"))
    assert "Expected no `add_loss`" in message

    class More(Encoded):
        calls = 0

        def call(self, inputs, training=None):
            hidden = self.encoder(inputs)
            self.calls += bool(training)
            for _ in range(self.calls):
                hidden = self.compute_once(lambda x: x + 1.0, hidden)
            return self.head(self.dropout(hidden, training=training))

    assert "as often as the first" in step(More())
