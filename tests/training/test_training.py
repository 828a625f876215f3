"""Training does all that plain Keras training does, next to R-Drop."""

import inspect

import autodiff
import builders
import keras
import numpy as np
import pytest
import tensorflow as tf
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDrop
from rdrop_keras import RDropModel

ROWS, FEATURES, CLASSES = 10, 5, 3


def same_masks_pair(rng, regularized=False, **layer_arguments):
    """A plain model and an R-Drop model whose two passes share their mask."""
    mask = random_masks(rng, 1, ROWS, FEATURES)
    masks = np.repeat(mask, 64, axis=0)
    models = []
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        hidden = ScriptedDropout(masks)(inputs)
        regularizer = keras.regularizers.L2(0.1) if regularized else None
        hidden = keras.layers.Dense(
            8,
            activation="relu",
            kernel_regularizer=regularizer,
            **layer_arguments,
        )(hidden)
        models.append(cls(inputs, keras.layers.Dense(CLASSES)(hidden)))
    return models


def assert_same_training(plain, ours, plain_history, our_history, rtol=1e-6):
    for key, values in plain_history.items():
        np.testing.assert_allclose(our_history[key], values, rtol=rtol)
    for a, b in zip(plain.trainable_weights, ours.trainable_weights):
        np.testing.assert_allclose(
            np.array(a), np.array(b), rtol=rtol, atol=rtol
        )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"steps_per_execution": 3},
        {"jit_compile": True},
        {"run_eagerly": True},
        {"optimizer": "accumulating"},
    ],
    ids=lambda s: next(iter(s), "default"),
)
def test_identical_passes_train_as_plain_keras(settings, rng):
    """With the same mask in both passes and the check off, both the average of
    the passes and the consistency of zero leave the plain model: weights,
    loss, metrics, regularizer and all."""
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    weights = rng.random(ROWS).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((x, y, weights)).batch(ROWS)
    settings = dict(settings)
    accumulate = settings.pop("optimizer", None) and 2
    histories = []
    plain, ours = same_masks_pair(rng, regularized=True)
    for model in (plain, ours):
        arguments = dict(settings)
        if model is ours:
            arguments["rdrop"] = RDrop(5.0, check_dropout=False)
        model.compile(
            keras.optimizers.Adam(0.01, gradient_accumulation_steps=accumulate),
            builders.cross_entropy(),
            metrics=["accuracy"],
            weighted_metrics=["accuracy"],
            **arguments,
        )
        histories.append(
            model.fit(
                data.repeat(6),
                epochs=2,
                validation_data=data,
                shuffle=False,
                verbose=0,
            ).history
        )
    assert_same_training(plain, ours, *histories)
    assert histories[1]["consistency_loss"] == [0.0, 0.0]
    assert histories[1]["task_loss"] == histories[1]["loss"]


def test_dropout_zero_with_the_check_off_is_plain_keras():
    x, y = builders.data()
    histories, models = [], []
    for make in (lambda g: keras.Model(*g), lambda g: RDropModel(*g)):
        keras.utils.set_random_seed(4)
        model = make(builders.graph(rate=0.0))
        arguments = {}
        if isinstance(model, RDropModel):
            arguments["rdrop"] = RDrop(7.0, check_dropout=False)
        model.compile("adam", builders.cross_entropy(), **arguments)
        history = model.fit(x, y, epochs=3, shuffle=False, verbose=0).history
        histories.append(history)
        models.append(model)
    assert_same_training(*models, *histories)


@pytest.mark.only("tensorflow", "jax", reason="PyTorch draws without the seed")
def test_passes_differ_and_advance_the_seed_twice():
    model = builders.functional()
    x, y = builders.data()
    model.compile("sgd", builders.cross_entropy())
    seed = model.layers[2].seed_generator.state
    before = np.array(seed)
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_array_equal(np.array(seed) - before, [0, 2])
    assert logs["consistency_loss"] > 0


def test_regularizers_and_add_loss_count_once(rng):
    class Activity(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(0.25 + 0.0 * keras.ops.sum(inputs))
            self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
            return inputs

    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    losses = []
    mask = np.repeat(random_masks(rng, 1, ROWS, FEATURES), 8, axis=0)
    for cls in (keras.Model, RDropModel):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        hidden = Activity()(ScriptedDropout(mask)(inputs))
        outputs = keras.layers.Dense(CLASSES, kernel_regularizer="l2")(hidden)
        model = cls(inputs, outputs)
        arguments = {}
        if cls is RDropModel:
            arguments["rdrop"] = RDrop(2.0, check_dropout=False)
        model.compile("sgd", builders.cross_entropy(), **arguments)
        losses.append(model.train_on_batch(x, y, return_dict=True)["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert losses[0] > 0.25


@pytest.mark.filterwarnings("ignore:.*not have any trainable weights")
def test_stochastic_add_loss_is_averaged_over_the_passes(rng):
    class Activity(keras.layers.Layer):
        def call(self, inputs):
            self.add_loss(keras.ops.mean(keras.ops.square(inputs)))
            return inputs

    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    masks = random_masks(rng, 2, ROWS, FEATURES)
    inputs = keras.Input((FEATURES,))
    model = RDropModel(inputs, Activity()(ScriptedDropout(masks)(inputs)))
    model.compile("sgd", "mse", rdrop=0.0)
    y = np.zeros_like(x)
    logs = model.train_on_batch(x, y, return_dict=True)
    expected = np.mean([2 * ((x * m) ** 2).mean() for m in masks])
    np.testing.assert_allclose(logs["loss"], expected, rtol=1e-5)


def test_loss_tracker_is_weighted_by_the_batch_size(rng):
    """A ragged last batch counts by its rows, as in Keras."""
    masks = random_masks(rng, 8, 1, FEATURES)
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    inputs = keras.Input((FEATURES,))
    outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
    model = RDropModel(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), builders.cross_entropy())
    separate = []
    for rows in (slice(0, 4), slice(4, 8), slice(8, 10)):
        model.reset_metrics()
        separate.append(
            model.train_on_batch(x[rows], y[rows], return_dict=True)
        )
    model.layers[1].call_count.assign(0)
    history = model.fit(x, y, batch_size=4, shuffle=False, verbose=0).history
    for key, values in history.items():
        expected = np.average(
            [logs[key] for logs in separate], weights=[4, 4, 2]
        )
        np.testing.assert_allclose(values, [expected], rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_mixed_precision(policy, jit_compile):
    keras.config.set_dtype_policy(policy)
    x, y = builders.data()
    model = builders.functional()
    model.compile(
        keras.optimizers.SGD(0.1),
        builders.cross_entropy(),
        rdrop=5.0,
        jit_compile=jit_compile,
    )
    before = [np.array(w) for w in model.trainable_weights]
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(
        logs["loss"],
        logs["task_loss"] + 2.5 * logs["consistency_loss"],
        rtol=1e-5,
    )
    assert 1e-4 < logs["consistency_loss"] < 1.0
    scaled = type(model.optimizer).__name__ == "LossScaleOptimizer"
    assert scaled == (policy == "mixed_float16")
    # The scale of 2^15 is out of the gradients again.
    steps = [
        np.abs(np.array(w) - b).max()
        for w, b in zip(model.trainable_weights, before)
    ]
    assert 1e-5 < max(steps) < 1.0


def test_scaled_loss_gives_the_same_step_in_float32(rng):
    """`scale_loss` covers the consistency term, not the task loss alone."""
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    masks = random_masks(rng, 2, ROWS, FEATURES)
    results = []
    for scaled in (False, True):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = RDropModel(inputs, outputs)
        optimizer = keras.optimizers.SGD(0.5)
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        model.compile(optimizer, builders.cross_entropy(), rdrop=20.0)
        model.train_on_batch(x, y)
        results.append([np.array(w) for w in model.trainable_weights])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "options", [{"jit_compile": True}, {"run_eagerly": True}], ids=str
)
def test_jit_equals_no_jit(options, rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    masks = random_masks(rng, 20, ROWS, FEATURES)
    histories = []
    for settings in ({"jit_compile": False}, options):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = RDropModel(inputs, outputs)
        model.compile(
            "adam",
            builders.cross_entropy(),
            metrics=["accuracy"],
            rdrop=5.0,
            **settings,
        )
        histories.append(
            model.fit(
                x, y, batch_size=ROWS, epochs=4, shuffle=False, verbose=0
            ).history
        )
    expected, history = histories
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=2e-5)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size, **kwargs):
        super().__init__(**kwargs)
        self.x, self.y, self.size = x, y, size

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, index):
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("source", ["dataset", "pydataset", "generator"])
def test_sources_of_data_give_what_arrays_give(source, rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    # More than the six used: Keras notices the end of a generator only in the
    # middle of one more step.
    masks = random_masks(rng, 12, 1, FEATURES)

    def train(data, **kwargs):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = RDropModel(inputs, outputs)
        model.compile("sgd", builders.cross_entropy(), rdrop=5.0)
        return model.fit(data, shuffle=False, verbose=0, **kwargs).history

    expected = train(x, y=y, batch_size=4)
    batches = [(x[i : i + 4], y[i : i + 4]) for i in (0, 4, 8)]
    if source == "dataset":
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    elif source == "pydataset":
        data = Batches(x, y, 4)
    else:
        data = (batch for batch in batches)
    actual = train(data)
    for key, values in expected.items():
        np.testing.assert_allclose(actual[key], values, rtol=1e-6)


def test_nested_inputs(rng):
    first = keras.Input((FEATURES,), name="first")
    second = keras.Input((FEATURES,), name="second")
    joined = keras.layers.Concatenate()([first, second])
    outputs = keras.layers.Dense(CLASSES)(keras.layers.Dropout(0.3)(joined))
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    for inputs, data in (
        ({"first": first, "second": second}, {"first": x, "second": -x}),
        ([first, second], [x, -x]),
    ):
        model = RDropModel(inputs, outputs)
        model.compile("sgd", builders.cross_entropy())
        history = model.fit(data, y, verbose=0).history
        assert history["consistency_loss"][0] > 0


@keras.saving.register_keras_serializable("tests")
class OwnLoss(builders.Subclassed):
    """Computes its loss itself and reports a metric of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.calls = keras.metrics.Sum(name="calls")

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        self.calls.update_state(1.0)
        losses = keras.losses.sparse_categorical_crossentropy(
            y, y_pred, from_logits=True
        )
        return 3.0 * keras.ops.mean(losses)


class OldOwnLoss(builders.Subclassed):
    """As before Keras 3.3, without `training`."""

    def compute_loss(self, x, y, y_pred, sample_weight=None):
        return keras.ops.mean(
            keras.losses.sparse_categorical_crossentropy(
                y, y_pred, from_logits=True
            )
        )


def test_custom_compute_loss_runs_for_each_pass():
    x, y = builders.data()
    model = OwnLoss()
    model.compile("sgd", rdrop=RDrop(5.0, divergence="squared_error"))
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["calls"] == 2
    np.testing.assert_allclose(
        logs["loss"],
        logs["task_loss"] + 2.5 * logs["consistency_loss"],
        rtol=1e-5,
    )
    assert logs["consistency_loss"] > 0
    model.reset_metrics()
    logs = model.test_on_batch(x, y, return_dict=True)
    assert sorted(logs) == ["calls", "loss"]
    assert logs["calls"] == 1


def test_custom_compute_loss_without_training_argument():
    x, y = builders.data()
    model = OldOwnLoss()
    model.compile("sgd", rdrop=RDrop(1.0, divergence="squared_error"))
    assert model.train_on_batch(x, y, return_dict=True)["consistency_loss"] > 0


def test_custom_compute_loss_must_say_how_to_compare():
    x, y = builders.data()
    model = OwnLoss()
    model.compile("sgd", rdrop=5.0)
    with pytest.raises(ValueError, match="no compiled loss"):
        model.fit(x, y, verbose=0)


def test_compute_rdrop_loss_in_a_loop_of_ones_own(rng):
    """The same masks give the same loss and the same step as `fit`."""
    x = rng.normal(size=(ROWS, FEATURES)).astype("float32")
    y = rng.integers(0, CLASSES, ROWS)
    weights = rng.random(ROWS).astype("float32")
    masks = random_masks(rng, 2, ROWS, FEATURES)
    models = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        inputs = keras.Input((FEATURES,))
        outputs = keras.layers.Dense(CLASSES)(ScriptedDropout(masks)(inputs))
        model = RDropModel(inputs, outputs)
        model.compile("sgd", builders.cross_entropy(), rdrop=5.0)
        models.append(model)
    fitted, looped = models

    kernel, bias = (np.array(w) for w in looped.trainable_weights)
    (loss, y_pred), gradients = autodiff.by_variables(
        lambda: looped.compute_rdrop_loss(x, y, weights),
        looped.trainable_weights,
        autodiff.TRACED,
    )
    looped.optimizer.apply(gradients, looped.trainable_weights)
    logs = fitted.train_on_batch(x, y, weights, return_dict=True)
    np.testing.assert_allclose(loss, logs["loss"], rtol=1e-6)
    np.testing.assert_allclose(y_pred, x * masks[0] @ kernel + bias, rtol=1e-4)
    for a, b in zip(fitted.trainable_weights, looped.trainable_weights):
        np.testing.assert_allclose(np.array(a), np.array(b), rtol=1e-6)


def test_compute_rdrop_loss_without_rdrop_is_the_task_loss():
    x, y = builders.data()
    model = builders.functional()
    with pytest.raises(ValueError, match="Expected a compiled model"):
        model.compute_rdrop_loss(x, y)
    model.compile("sgd", builders.cross_entropy(), rdrop=None)
    loss, y_pred = model.compute_rdrop_loss(x, y)
    expected = builders.cross_entropy()(y, y_pred)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_standard_callbacks(tmp_path):
    x, y = builders.data()
    model = builders.functional()
    model.compile("adam", builders.cross_entropy(), rdrop=1.0)
    log = tmp_path / "log.csv"
    history = model.fit(
        x,
        y,
        epochs=6,
        validation_data=(x, y),
        verbose=0,
        callbacks=[
            keras.callbacks.TensorBoard(tmp_path / "tensorboard"),
            keras.callbacks.CSVLogger(log),
            keras.callbacks.EarlyStopping(
                "consistency_loss", mode="min", patience=50
            ),
            keras.callbacks.ReduceLROnPlateau("task_loss", mode="min"),
            keras.callbacks.ModelCheckpoint(
                tmp_path / "best.keras", monitor="val_loss", save_best_only=True
            ),
            keras.callbacks.TerminateOnNaN(),
        ],
    ).history
    header = log.read_text().splitlines()[0]
    assert "consistency_loss" in header
    assert "task_loss" in header
    assert len(history["loss"]) == 6
    best = keras.saving.load_model(tmp_path / "best.keras")
    assert best.rdrop == RDrop(1.0)
    assert list((tmp_path / "tensorboard" / "train").iterdir())


def test_terminate_on_nan_stops(rng):
    x, y = builders.data()
    # In a weight: some kernels of a dense layer and ReLU make a NaN that comes
    # with the inputs 0.
    weights = np.ones(len(x))
    weights[0] = np.nan
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=1.0)
    history = model.fit(
        x,
        y,
        sample_weight=weights,
        epochs=3,
        verbose=0,
        batch_size=len(x),
        callbacks=[keras.callbacks.TerminateOnNaN()],
    ).history
    assert len(history["loss"]) == 1
    assert np.isnan(history["loss"][0])


@pytest.mark.skipif(
    "raise_error"
    not in inspect.signature(keras.callbacks.TerminateOnNaN).parameters,
    reason="this Keras stops gracefully only",
)
def test_terminate_on_nan_writes_nothing(tmp_path):
    """Of the epoch with the NaN: what was written before it stays."""
    x, y = builders.data()
    weights = np.ones(3 * len(x))
    weights[len(x)] = np.nan
    model = builders.functional()
    model.compile("sgd", builders.cross_entropy(), rdrop=1.0)
    rows = np.tile(x, (3, 1)), np.tile(y, 3), weights
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(len(x))
    paths = {
        "every": tmp_path / "every.keras",
        "best": tmp_path / "best.keras",
        "backup": tmp_path / "backup" / "latest.weights.h5",
        "log": tmp_path / "log.csv",
    }
    log = keras.callbacks.CSVLogger(paths["log"])
    seen = []

    class Watch(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                log.csv_file.flush()
                seen.extend(path.read_bytes() for path in paths.values())

    with pytest.raises(RuntimeError, match="NaN or Inf loss"):
        model.fit(
            batches,
            epochs=3,
            steps_per_epoch=1,
            shuffle=False,
            validation_data=(x, y),
            verbose=0,
            callbacks=[
                keras.callbacks.TerminateOnNaN(raise_error=True),
                keras.callbacks.ModelCheckpoint(paths["every"]),
                keras.callbacks.ModelCheckpoint(
                    paths["best"], save_best_only=True
                ),
                keras.callbacks.BackupAndRestore(paths["backup"].parent),
                log,
                Watch(),
            ],
        )
    log.csv_file.close()
    assert len(seen) == 4
    assert [path.read_bytes() for path in paths.values()] == seen
    assert np.isnan(model.trainable_weights[0]).any()
    good = keras.saving.load_model(paths["best"])
    assert np.isfinite(good.predict(x, verbose=0)).all()


def test_backup_and_restore_goes_on(tmp_path):
    x, y = builders.data()
    model = builders.functional()
    model.compile("adam", builders.cross_entropy(), rdrop=1.0)

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=4, verbose=0, callbacks=[backup(), Stop()])
    again = builders.functional()
    again.compile("adam", builders.cross_entropy(), rdrop=1.0)
    history = again.fit(x, y, epochs=4, verbose=0, callbacks=[backup()]).history
    assert len(history["loss"]) == 2
    assert int(again.optimizer.iterations) == 8


def test_plain_and_rdrop_learn(rng):
    """The objective goes down and the passes come to agree."""
    x, y = builders.data(rows=256)
    model = builders.functional(rate=0.1)
    model.compile(
        keras.optimizers.Adam(0.03),
        builders.cross_entropy(),
        metrics=["accuracy"],
        rdrop=5.0,
    )
    history = model.fit(x, y, epochs=30, verbose=0).history
    assert model.evaluate(x, y, verbose=0, return_dict=True)["accuracy"] > 0.85
    assert history["loss"][-1] < 0.7 * history["loss"][0]
