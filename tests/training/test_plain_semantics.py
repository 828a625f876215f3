"""With passes that are all the same, R-Drop training is plain training.

Nothing drops out here, so that two passes, averaged, have the loss, the
metrics, the updates and the state of one. Plain Keras is the reference for
every kind of model, optimizer and option.
"""

import functools

import keras
import numpy as np
import pytest
from builders import Stateful

from rdrop_keras import RDrop
from rdrop_keras import RDropMixin
from rdrop_keras import RDropModel

ROWS, WORDS, TIME, FEATURES, CLASSES = 8, 64, 5, 6, 3
STEPS = 5


def cross_entropy():
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def dense(cls):
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(
        8, activation="tanh", kernel_regularizer="l2", activity_regularizer="l2"
    )(inputs)
    hidden = keras.layers.Dropout(0.0)(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def normalized(cls):
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.SpectralNormalization(keras.layers.Dense(8))(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dropout(0.0)(keras.layers.ReLU()(hidden))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(8)(hidden))
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def recurrent(cls):
    inputs = keras.Input(batch_shape=(ROWS, TIME, FEATURES))
    hidden = keras.layers.GRU(6, stateful=True, return_sequences=True)(inputs)
    hidden = keras.layers.LSTM(6, stateful=True)(hidden)
    hidden = Stateful()(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def embedding(cls):
    inputs = keras.Input((TIME,), dtype="int32")
    hidden = keras.layers.Embedding(WORDS, 6, mask_zero=True)(inputs)
    hidden = keras.layers.GlobalAveragePooling1D()(hidden)
    hidden = keras.layers.Dense(8, activation="tanh")(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def tagger(cls):
    """A label for every word, with a mask."""
    inputs = keras.Input((TIME,), dtype="int32")
    hidden = keras.layers.Embedding(WORDS, 6, mask_zero=True)(inputs)
    hidden = keras.layers.GRU(6, return_sequences=True)(hidden)
    return cls(inputs, keras.layers.Dense(CLASSES)(hidden))


def two_heads(cls):
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(8, activation="tanh")(inputs)
    heads = {
        "task": keras.layers.Dense(CLASSES, name="task")(hidden),
        "value": keras.layers.Dense(1, name="value")(hidden),
    }
    return cls(inputs, heads)


def sequential(cls):
    if cls is not keras.Model:
        cls = MixedSequential
    else:
        cls = keras.Sequential
    return cls(
        [
            keras.Input((FEATURES,)),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(CLASSES, activation="softmax"),
        ]
    )


class MixedSequential(RDropMixin, keras.Sequential):
    pass


def subclassed(cls):
    if cls is not keras.Model:
        return Mixed()
    return Plain()


class Plain(keras.Model):
    """With a loss, a metric and a counter of its own."""

    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(8, activation="tanh")
        self.state = Stateful()
        self.head = keras.layers.Dense(CLASSES)
        self.rows = keras.metrics.Mean(name="rows")

    def call(self, inputs, training=None):
        hidden = self.state(self.hidden(inputs), training=training)
        self.add_loss(0.1 * keras.ops.mean(hidden**2))
        return self.head(hidden)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        self.rows.update_state(keras.ops.shape(x)[0])
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        return 2.0 * loss


class Mixed(RDropMixin, Plain):
    pass


MODELS = {
    f.__name__: f
    for f in (
        dense,
        normalized,
        recurrent,
        embedding,
        tagger,
        two_heads,
        sequential,
        subclassed,
    )
}
# Where plain Keras trains them right; R-Drop does everywhere.
KEPT = {
    "recurrent": pytest.mark.only(
        "tensorflow",
        reason="plain Keras drops the state of layers on JAX, and cannot "
        "differentiate them on PyTorch",
    ),
    "subclassed": pytest.mark.only(
        "tensorflow",
        "torch",
        reason="plain Keras drops the metrics of layers on JAX",
    ),
    "tagger": pytest.mark.only(
        "tensorflow",
        "torch",
        reason="plain Keras counts padding in the accuracy on JAX",
    ),
}
OPTIMIZERS = sorted(
    name
    for name in dir(keras.optimizers)
    if isinstance(getattr(keras.optimizers, name), type)
    and issubclass(getattr(keras.optimizers, name), keras.optimizers.Optimizer)
    # The last two wrap others.
    and name not in ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
)


def batches(name, rng):
    for _ in range(STEPS):
        x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
        y = rng.integers(0, CLASSES, ROWS)
        weights = rng.random(ROWS).astype("float32")
        if name == "recurrent":
            x = rng.normal(size=(ROWS, TIME, FEATURES)).astype("float32")
        if name in ("embedding", "tagger"):
            # No word twice in a batch: Keras squares the gradients of repeated
            # words one by one (see test_embeddings.py).
            x = rng.permutation(WORDS - 1)[: ROWS * TIME].reshape(ROWS, TIME)
            x = x + 1
            x[1, 3:] = 0
        if name == "tagger":
            y = rng.integers(0, CLASSES, (ROWS, TIME))
            weights = rng.random((ROWS, TIME)).astype("float32")
        if name == "two_heads":
            y = {"task": y, "value": x[:, :1]}
            weights = {"task": weights, "value": weights**2}
        yield x, y, weights


def build_layers(model, name):
    if not model.built:
        x, *_ = next(batches(name, np.random.default_rng(3)))
        model(x)


def draw_weights(model):
    """Draws weights that are the same on every backend, unlike Keras's own.

    Adam divides by the size of a gradient, and so enlarges the rounding of one
    that is close to 0. With these weights no gradient is.
    """
    generator = np.random.default_rng(5)
    for weight in model.trainable_weights:
        weight.assign(generator.normal(scale=0.3, size=weight.shape))


def train(name, rdrop, optimizer, epochs=1, **options):
    keras.utils.set_random_seed(7)
    cls = keras.Model if rdrop is None else RDropModel
    model = MODELS[name](cls)
    draw_weights(model)
    loss, metrics, weights = cross_entropy(), ["accuracy"], None
    if name == "sequential":
        loss = "sparse_categorical_crossentropy"
    if name == "two_heads":
        loss = {"task": loss, "value": keras.losses.Huber()}
        metrics, weights = {"task": "accuracy"}, {"task": 0.5, "value": 2.0}
    if rdrop is not None:
        options["rdrop"] = rdrop
    model.compile(
        optimizer, loss, loss_weights=weights, metrics=metrics, **options
    )
    if rdrop is None:
        # As R-Drop does before the step is traced. Keras builds it inside of
        # the step, where ScheduleFreeAdamW's momentum does not get the
        # weights that its `build` assigns.
        build_layers(model, name)
        model.optimizer.build(model.trainable_variables)
    data = list(batches(name, np.random.default_rng(3)))
    x, y, weight = (
        keras.tree.map_structure(lambda *leaves: np.concatenate(leaves), *part)
        for part in zip(*data)
    )
    history = model.fit(
        x,
        y,
        sample_weight=weight,
        batch_size=ROWS,
        epochs=epochs,
        shuffle=False,
        verbose=0,
    ).history
    return model, history


def train_plain(name, optimizer, epochs=1):
    """The reference. In eager mode, which is tracing's time less."""
    return train(name, None, optimizer, epochs=epochs, run_eagerly=True)


@functools.cache
def plain_by_sgd(name):
    return train_plain(name, keras.optimizers.SGD(0.1, momentum=0.9))


def assert_same(found, expected):
    (model, history), (plain, plain_history) = found, expected
    for key, values in plain_history.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5, atol=1e-6)
    for name in ("weights", "metrics_variables"):
        for a, b in zip(getattr(model, name), getattr(plain, name)):
            assert a.shape == b.shape
            if b.path.startswith("rows/"):
                # A metric that `compute_loss` feeds is a mean over all passes.
                continue
            np.testing.assert_allclose(
                np.array(a), np.array(b), rtol=1e-5, atol=1e-6, err_msg=b.path
            )
    assert len(model.weights) == len(plain.weights)
    slots = zip(model.optimizer.variables, plain.optimizer.variables)
    for a, b in slots:
        np.testing.assert_allclose(
            np.array(a), np.array(b), rtol=1e-5, atol=1e-6, err_msg=b.path
        )


@pytest.mark.parametrize(
    "settings",
    [{}, {"fused": False, "num_passes": 3}, {"passes": "concat"}, {"every": 2}],
    ids=str,
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=KEPT.get(name, ())) for name in MODELS],
)
def test_models(name, settings):
    if settings.get("passes") == "concat" and name in (
        "recurrent",  # Its batch size is fixed.
        "subclassed",  # It counts rows, and a row counts once a pass.
        "dense",  # Its activity regularizer divides by the rows of a call.
    ):
        pytest.skip("sees the repeated batch")
    rdrop = RDrop(3.0, check_dropout=False, **settings)
    sgd = keras.optimizers.SGD(0.1, momentum=0.9)
    found = train(name, rdrop, sgd, run_eagerly="num_passes" in settings)
    assert_same(found, plain_by_sgd(name))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=pytest.mark.since("3.13", reason="Muon fails in Keras")
            if name == "Muon"
            else (),
        )
        for name in OPTIMIZERS
    ],
)
def test_optimizers(name):
    def optimizer():
        return getattr(keras.optimizers, name)(learning_rate=0.01)

    rdrop = RDrop(3.0, check_dropout=False)
    # Each in eager mode, and in a graph the one whose state depends on when it
    # is built.
    eager = name != "ScheduleFreeAdamW"
    found = train("embedding", rdrop, optimizer(), run_eagerly=eager)
    assert_same(found, train_plain("embedding", optimizer()))


ADAM_OPTIONS = {
    "ema": {"use_ema": True, "ema_momentum": 0.9, "ema_overwrite_frequency": 2},
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipnorm": {"clipnorm": 0.05},
    "global_clipnorm": {"global_clipnorm": 0.05},
    "clipvalue": {"clipvalue": 0.01},
    "weight_decay": {"weight_decay": 0.01},
}


@pytest.mark.parametrize("option", ADAM_OPTIONS)
def test_optimizer_options(option):
    def optimizer():
        return keras.optimizers.Adam(0.01, **ADAM_OPTIONS[option])

    rdrop = RDrop(3.0, check_dropout=False)
    eager = option in ("global_clipnorm", "clipvalue", "weight_decay")
    found = train("embedding", rdrop, optimizer(), run_eagerly=eager)
    assert_same(found, train_plain("embedding", optimizer()))


@pytest.mark.parametrize(
    "name, options",
    [
        ("normalized", {"steps_per_execution": 2}),
        ("normalized", {"jit_compile": True}),
        pytest.param(
            "recurrent", {"steps_per_execution": 2}, marks=KEPT["recurrent"]
        ),
        pytest.param(
            "recurrent", {"run_eagerly": True}, marks=KEPT["recurrent"]
        ),
        ("two_heads", {"jit_compile": True}),
        ("two_heads", {"loss_scaling": True}),
    ],
    ids=str,
)
def test_options(name, options):
    options = dict(options)
    scaled = options.pop("loss_scaling", False)

    def optimizer():
        sgd = keras.optimizers.SGD(0.1, momentum=0.9)
        return keras.optimizers.LossScaleOptimizer(sgd) if scaled else sgd

    rdrop = RDrop(3.0, check_dropout=False)
    found = train(name, rdrop, optimizer(), epochs=2, **options)
    assert_same(found, train_plain(name, optimizer(), epochs=2))
