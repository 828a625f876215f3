"""What is looked at before training, and that looking changes nothing."""

import threading
import warnings

import builders
import keras
import numpy as np
import pytest
import tensorflow as tf

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras import losses

layers = keras.layers
ZEROS = {"kernel_initializer": "zeros"}


def zero_head(inputs):
    hidden = layers.Dropout(0.3)(layers.Dense(8, activation="relu")(inputs))
    return layers.Dense(3, **ZEROS)(hidden)


def zero_branch(inputs):
    """A residual branch, with the dropout, that starts at zero."""
    hidden = layers.Dense(8)(inputs)
    branch = layers.Dense(8)(layers.Dropout(0.3)(hidden))
    branch = layers.BatchNormalization(gamma_initializer="zeros")(branch)
    return layers.Dense(3)(layers.Add()([hidden, branch]))


def zero_adapter(inputs):
    hidden = layers.Dense(8)(inputs)
    branch = layers.Dropout(0.3)(layers.Dense(2)(hidden))
    return layers.Dense(3)(
        layers.Add()([hidden, layers.Dense(8, **ZEROS)(branch)])
    )


def zero_branch_and_head(inputs):
    """The branch takes no gradient until the head has left zero."""
    hidden = layers.Dense(8)(inputs)
    branch = layers.Dense(8, **ZEROS)(layers.Dropout(0.3)(hidden))
    return layers.Dense(3, **ZEROS)(layers.Add()([hidden, branch]))


@pytest.mark.parametrize(
    "head", [zero_head, zero_branch, zero_adapter, zero_branch_and_head]
)
def test_zeros_are_no_lack_of_dropout(head):
    x, y = builders.data()
    inputs = keras.Input((builders.FEATURES,))
    model = RDropModel(inputs, head(inputs))
    model.compile(keras.optimizers.SGD(1.0), builders.cross_entropy())
    history = model.fit(x, y, epochs=4, verbose=0).history
    assert max(history["consistency_loss"]) > 1e-5


def test_zeros_without_dropout_are_a_lack_of_it():
    x, y = builders.data()
    inputs = keras.Input((builders.FEATURES,))
    model = RDropModel(inputs, layers.Dense(3, **ZEROS)(inputs))
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="no layer that draws random numbers"):
        model.fit(x, y, verbose=0)


def test_dead_network_is_found():
    x, y = builders.data()
    inputs = keras.Input((builders.FEATURES,))
    hidden = layers.Dropout(0.3)(layers.Dense(8)(inputs))
    dead = layers.Rescaling(0.0)(hidden)
    model = RDropModel(inputs, layers.Dense(3)(dead))
    model.compile("sgd", builders.cross_entropy())
    with pytest.raises(ValueError, match="does not reach the output"):
        model.fit(x, y, verbose=0)


@pytest.mark.parametrize("built", [False, True])
def test_nothing_has_moved_after_the_error(built):
    """Nor the bias of a model that had no weights before."""
    x, y = builders.data()
    model = builders.Subclassed(rate=0.0)
    if built:
        model(x)
    model.compile(keras.optimizers.SGD(1.0), builders.cross_entropy())
    with pytest.raises(ValueError, match="Received identical outputs"):
        model.fit(x, y, verbose=0)
    np.testing.assert_array_equal(np.array(model.head.bias), 0.0)
    assert int(model.optimizer.iterations) == 0


def test_off_turn_steps_are_looked_at_too():
    x, y = builders.data()
    model = builders.functional(rate=0.0)
    model.compile("sgd", builders.cross_entropy(), rdrop=RDrop(every=2))
    model.optimizer.iterations.assign(1)
    with pytest.raises(ValueError, match="Received identical outputs"):
        model.train_on_batch(x, y)


def test_a_batch_that_says_nothing_is_not_the_last_look():
    x, y = builders.data()
    model = builders.functional(rate=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=-1
    )
    model.compile("sgd", loss)
    model.train_on_batch(x, np.full_like(y, -1))
    with pytest.raises(ValueError, match="Received identical outputs"):
        model.train_on_batch(x, y)


@pytest.mark.parametrize("how", ["fit", "train_on_batch"])
def test_the_look_warns_of_nothing_that_training_does_not(how, recwarn):
    """Keras compares the structure of arrays, not that of a tensor."""
    if (how, keras.backend.backend()) == ("train_on_batch", "torch"):
        pytest.skip("plain Keras warns here on PyTorch")
    inputs = [keras.Input((4,))]
    hidden = layers.Dropout(0.5)(layers.Dense(8)(inputs[0]))
    model = RDropModel(inputs, [layers.Dense(1)(hidden)])
    model.compile("sgd", "mse", rdrop=1.0)
    x = np.ones((8, 4))
    if how == "fit":
        model.fit(x, x[:, :1], verbose=0)
    else:
        model.train_on_batch(x, x[:, :1])
    messages = [str(warning.message) for warning in recwarn]
    assert [text for text in messages if "structure" in text] == []


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("eager", [False, True])
def test_every_batch_is_trained_on_once(steps, eager):
    """The batch that is looked at is handed on, in its order."""
    x = np.arange(28, dtype="float32").reshape(7, 2, 2) / 28
    results = []
    for look in (True, False):
        keras.utils.set_random_seed(3)
        inputs = keras.Input((2,))
        hidden = layers.Dropout(0.5, seed=1)(layers.Dense(4)(inputs))
        model = RDropModel(inputs, layers.Dense(1)(hidden))
        model.compile(
            keras.optimizers.SGD(0.1),
            "mse",
            steps_per_execution=steps,
            run_eagerly=eager,
        )
        if not look:
            model._rdrop_checked = True
            model(x[0])
        data = tf.data.Dataset.from_tensor_slices((x, x[..., :1]))
        results.append(
            (
                model.fit(data, shuffle=False, verbose=0).history,
                model.get_weights(),
            )
        )
    (one, weights), (other, others) = results
    for key, values in one.items():
        np.testing.assert_allclose(values, other[key], rtol=1e-6)
    for a, b in zip(weights, others):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert int(model.optimizer.iterations) == 7


@pytest.mark.parametrize("check_dropout", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_logits_are_never_taken_for_probabilities(seed, check_dropout):
    """Two small logits may lie between 0 and 1 in the first row."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 20)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    inputs = keras.Input((20,))
    hidden = layers.Dropout(0.2)(layers.Dense(32, activation="relu")(inputs))
    model = RDropModel(inputs, layers.Dense(2)(hidden))
    model.compile(
        "adam",
        "sparse_categorical_crossentropy",
        rdrop=RDrop(5.0, check_dropout=check_dropout),
        run_eagerly=True,
    )
    with pytest.raises(ValueError, match="to be probabilities"):
        model.fit(x, y, verbose=0)


def test_the_message_names_what_a_function_can_do():
    x, y = builders.data()
    model = builders.functional()

    def loss(y_true, y_pred):
        return keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=True
        )

    model.compile("sgd", loss, rdrop=RDrop(1.0, "categorical"))
    with pytest.raises(
        ValueError, match=r"losses.CategoricalConsistency\(from_logits=True\)"
    ):
        model.fit(x, y, verbose=0)


def test_from_logits_is_read_where_the_user_said_it():
    x, y = builders.data()

    def loss(y_true, y_pred, from_logits=True):
        return keras.losses.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=from_logits
        )

    results = []
    for compiled, rdrop in (
        (loss, RDrop(1.0, "categorical")),
        (builders.cross_entropy(), RDrop(1.0)),
    ):
        keras.utils.set_random_seed(1)
        model = builders.functional()
        model.compile("sgd", compiled, rdrop=rdrop)
        logs = model.train_on_batch(x, y, return_dict=True)
        results.append({name: float(value) for name, value in logs.items()})
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_rdrop_loss_refuses_logits():
    logits = [np.array([[0.0, 0.3]]), np.array([[2.0, 0.1]])]
    with pytest.raises(ValueError, match="Expected `outputs` to be probab"):
        losses.rdrop_loss([1.0, 1.0], logits, 5.0, "categorical")
    with pytest.raises(ValueError, match="from_logits=True"):
        losses.rdrop_loss([1.0, 1.0], logits, 5.0, "bernoulli")


class Tagger(RDropModel):
    def __init__(self, keep_mask):
        super().__init__()
        self.keep_mask = keep_mask
        self.table = layers.Embedding(7, 5, mask_zero=True)
        self.dropout = layers.Dropout(0.3)
        self.head = layers.Dense(7)

    def call(self, inputs, training=None):
        logits = self.head(self.dropout(self.table(inputs), training=training))
        return logits if self.keep_mask else keras.ops.copy(logits)


@pytest.mark.parametrize(
    ("keep_mask", "padded", "weights", "warned"),
    [
        (False, True, False, True),
        (True, True, False, False),
        (False, False, False, False),
        (False, True, True, False),
    ],
)
def test_padding_that_the_loss_masks_by_itself(
    keep_mask, padded, weights, warned, rng
):
    words = rng.integers(1, 7, (4, 6))
    if padded:
        words[1, 3:] = 0
        words[2, 2:] = 0

    def masked_loss(label, logits):
        mask = keras.ops.cast(label != 0, "float32")
        values = builders.cross_entropy()(label, logits) * mask
        return keras.ops.sum(values) / keras.ops.sum(mask)

    model = Tagger(keep_mask)
    divergence = losses.CategoricalConsistency(from_logits=True)
    model.compile("sgd", masked_loss, rdrop=RDrop(1.0, divergence))
    sample_weight = np.ones((4, 6)) if weights else None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        model.fit(words, words, sample_weight=sample_weight, verbose=0)
    messages = [str(w.message) for w in found if "padded" in str(w.message)]
    assert len(messages) == warned
    if warned:
        assert "sample weights of 0" in messages[0]


def wide(cls=RDropModel):
    inputs = keras.Input((16,))
    hidden = inputs
    for _ in range(4):
        hidden = layers.Dense(16, activation="relu")(hidden)
        hidden = layers.Dropout(0.1)(hidden)
    return cls(inputs, layers.Dense(3)(hidden))


def together(*functions):
    errors = []

    def caught(function):
        try:
            function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(f,)) for f in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("eager", [False, True])
def test_two_models_train_in_two_threads(eager, rng):
    x, y = rng.normal(size=(32, 16)).astype("float32"), np.arange(32) % 3
    draw = keras.random.SeedGenerator.next
    for _ in range(8 if eager else 2):
        models = [wide(), wide()]
        for model in models:
            model.compile("sgd", builders.cross_entropy(), run_eagerly=eager)
        together(
            *(
                lambda m=model: m.fit(x, y, batch_size=16, verbose=0)
                for model in models
            )
        )
        assert keras.random.SeedGenerator.next is draw


@pytest.mark.parametrize(
    "make, eager",
    [(wide, False), (wide, True), (lambda: wide(keras.Model), True)],
)
@pytest.mark.only(
    "tensorflow",
    "torch",
    reason="`fit` takes the values out of the variables on JAX",
)
def test_predicting_while_another_thread_trains(make, eager, rng):
    """The weights do not move, so that all predictions are the same."""
    x, y = rng.normal(size=(32, 16)).astype("float32"), np.arange(32) % 3
    model = make()
    expected = keras.ops.convert_to_numpy(model(x))
    wrong = []

    def predict(trainer):
        for _ in range(30):
            found = keras.ops.convert_to_numpy(model(x))
            if not np.allclose(found, expected, atol=1e-5):
                wrong.append(1)

    for _ in range(8 if eager else 2):
        trainer = RDropModel.from_model(model)
        trainer.compile(
            keras.optimizers.SGD(0.0),
            builders.cross_entropy(),
            run_eagerly=eager,
        )
        together(
            lambda t=trainer: t.fit(x, y, batch_size=16, verbose=0),
            lambda t=trainer: predict(t),
        )
    assert not wrong


@pytest.mark.only("tensorflow", reason="counts traces of `tf.function`")
def test_the_step_is_traced_once():
    """A trace that creates the optimizer's variables would be repeated."""
    traces = []

    class Recorder(keras.layers.Layer):
        def call(self, inputs):
            if not tf.executing_eagerly():
                traces.append(inputs)
            return inputs

    model = RDropModel.from_model(
        keras.Sequential(
            [
                keras.layers.Dropout(0.5),
                Recorder(),
                keras.layers.Dense(1),
            ]
        )
    )
    model.build((None, 3))
    model.compile("adam", "mse", rdrop=RDrop(num_passes=3))
    traces.clear()
    model.fit(np.ones((4, 3)), np.ones((4, 1)), batch_size=2, verbose=0)
    assert len(traces) == 3
