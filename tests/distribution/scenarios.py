"""What each worker runs. The results are JSON values."""

import contextlib
import io
import os
import pathlib
import signal
import sys
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from cases import cases
from cases import classification
from cases import run

from rdrop_keras import RDropModel
from rdrop_keras.callbacks import BackupAndRestore
from rdrop_keras.distribution import MultiWorkerMirroredStrategy


def strategy_here(timeout=60.0):
    if not os.environ["TF_CONFIG"] or os.environ["TF_CONFIG"] == "{}":
        return None
    return MultiWorkerMirroredStrategy(timeout=timeout)


def scope_of(strategy):
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def train(names, batch_size):
    """Trains on 30 rows: R-Drop, or under the name `plain` without it."""
    strategy = strategy_here()
    results = {}
    for name in names:
        case = classification(rows=30)
        if name == "plain":
            case["rdrop"] = None
        results[name] = run(case, batch_size, scope=lambda: scope_of(strategy))
    return results


class Keeping(keras.layers.Layer):
    """Keeps its last input in training, to look at dropout masks."""

    def build(self, shape):
        # Floats would be averaged over workers.
        self.kept = self.add_weight(
            shape=(2, shape[-1]),
            initializer="zeros",
            trainable=False,
            dtype="int32",
        )

    def call(self, inputs, training=None):
        if training:
            self.kept.assign(keras.ops.cast(inputs[:2], "int32"))
        return inputs


def model_with_dropout(strategy, rate=0.5, cls=RDropModel, rdrop=1.0):
    keras.utils.set_random_seed(3)
    with scope_of(strategy):
        inputs = keras.Input((5,))
        hidden = keras.layers.Dense(8, activation="tanh")(inputs)
        hidden = keras.layers.BatchNormalization(momentum=0.5)(hidden)
        hidden = keras.layers.Dropout(rate)(hidden)
        model = cls(inputs, keras.layers.Dense(1)(hidden))
        settings = {"rdrop": rdrop} if cls is RDropModel else {}
        model.compile(keras.optimizers.Adam(0.05), "mse", **settings)
    return model


def data(rows=24):
    x = np.random.default_rng(0).normal(size=(rows, 5)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def numbers(variables):
    return [np.ravel(v.numpy()).tolist() for v in variables]


def whole_fit(folder):
    """`fit` with validation, callbacks, files, and the masks that it drew."""
    folder = pathlib.Path(folder)
    strategy = strategy_here()
    model = model_with_dropout(strategy)
    chief = strategy.extended.should_checkpoint
    x, y = data()
    valid = data(7)
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=0, min_delta=10.0
    )
    files = [
        keras.callbacks.ModelCheckpoint(str(folder / "best.keras")),
        keras.callbacks.TensorBoard(str(folder / "logs")),
    ]
    history = model.fit(
        tf.data.Dataset.from_tensor_slices((x, y)).batch(10),
        validation_data=tf.data.Dataset.from_tensor_slices(valid).batch(4),
        epochs=5,
        verbose=0,
        callbacks=[stopping, *(files if chief else [])],
    ).history
    evaluated = model.evaluate(
        *valid, batch_size=4, return_dict=True, verbose=0
    )
    predicted = model.predict(x, batch_size=10, verbose=0)
    if chief:
        model.save(folder / "model.keras")
        model.export(folder / "exported", verbose=False)
    return {
        "history": history,
        "evaluate": evaluated,
        "predict": predicted.tolist(),
        "weights": numbers(model.variables),
        "files": numbers(model.weights),
        "x": x.tolist(),
    }


def masks():
    return masks_of(strategy_here())


def masks_of(strategy):
    """The rows after dropout on each replica here, in two equal runs."""
    runs = []
    for _ in range(2):
        keras.utils.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        with strategy.scope():
            inputs = keras.Input((16,))
            keeping = Keeping()
            hidden = keeping(keras.layers.Dropout(0.5)(inputs))
            model = RDropModel(inputs, keras.layers.Dense(1)(hidden))
            model.compile("sgd", "mse")
        x = np.ones((12, 16), "float32")
        model.fit(x, x[:, :1], batch_size=6, verbose=0)
        kept = strategy.experimental_local_results(keeping.kept.value)
        runs.append(numbers(kept))
    (seeds,) = [v for v in model.variables if "seed" in v.path]
    seeds = strategy.experimental_local_results(seeds.value)
    return {"runs": runs, "seeds": numbers(seeds)}


def failing_check(failing):
    """The first batch of one worker has identical passes."""
    strategy = strategy_here()
    index = strategy.cluster_resolver.task_id
    keras.utils.set_random_seed(3)
    with strategy.scope():
        inputs = keras.Input((5,))
        hidden = keras.layers.Dropout(0.5)(inputs)
        model = RDropModel(inputs, keras.layers.Dense(1)(hidden))
        model.compile("sgd", "mse")
    before = numbers(model.variables)
    x, y = data()
    if index == failing:
        # Dropout does not change zeros.
        x = np.zeros_like(x)
    dataset = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_tensor_slices((x, y)).batch(6)
    )
    try:
        model.fit(dataset, steps_per_epoch=2, verbose=0)
        error = None
    except ValueError as raised:
        error = str(raised)
    return {"error": error, "same": numbers(model.variables) == before}


def mirrored(with_plain, with_one_device):
    """Trains cases on two replicas of one process.

    Args:
        with_plain: The cases to train with equal passes, and as plain models.
        with_one_device: The cases to train with R-Drop, and on one device.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = {}
    for name in with_plain:
        for kind in ("rdrop", "plain"):
            case = cases()[name]()
            given = case["x"]["masks"]
            given[:, 1:] = given[:, :1]
            if kind == "plain":
                case["rdrop"] = None
            results[f"{name} {kind}"] = run(case, scope=strategy.scope)
    for name in with_one_device:
        results[f"{name} two"] = run(cases()[name](), scope=strategy.scope)
        results[f"{name} one"] = run(cases()[name]())
    refused = {}
    for name in ("accumulation", "moving_average", "jit", "several_steps"):
        for kind in ("rdrop", "plain"):
            case = cases()[name]()
            if kind == "plain":
                case["rdrop"] = None
            try:
                run(case, scope=strategy.scope)
            except Exception as error:
                refused[f"{name} {kind}"] = f"{type(error).__name__}: {error}"
    with strategy.scope():
        inputs = keras.Input((5,))
        dropped = keras.layers.Dropout(0.5)(inputs)
        plain = keras.Model(inputs, keras.layers.Dense(1)(dropped))
        plain.compile("sgd", "mse")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            RDropModel.from_model(plain)
    return {
        "results": results,
        "refused": refused,
        "taken over": str(caught[-1].message),
        "masks": masks_of(strategy),
    }


def backed_up(folder, epochs, kill=None):
    """Trains with a backup. One worker may kill itself."""
    strategy = strategy_here()
    model = model_with_dropout(strategy)
    run = []

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            run.append(epoch)

        def on_train_batch_end(self, batch, logs=None):
            update = int(self.model.optimizer.iterations.numpy())
            index = strategy.cluster_resolver.task_id
            if kill == [index, update]:
                os.kill(os.getpid(), signal.SIGKILL)

    x, y = data()
    backup = BackupAndRestore(folder, delete_checkpoint=False)
    history = model.fit(
        x,
        y,
        batch_size=8,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[Kill(), backup],
    ).history
    return {
        "epochs": run,
        "loss": history["loss"],
        "weights": numbers([*model.variables, *model.optimizer.variables]),
    }


def waits_for_a_worker(timeout):
    start = time.monotonic()
    try:
        strategy_here(timeout)
    except TimeoutError as error:
        return {"error": str(error), "seconds": time.monotonic() - start}


def keras_alone():
    """Tries what Keras cannot do with TensorFlow's own strategy."""
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.utils.set_random_seed(3)
    with strategy.scope():
        model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
    x, y = data()
    try:
        model.fit(x, y, batch_size=8, verbose=0)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def program(commands, folder, devices=1, cut=None):
    """Runs command lines of `reproduce`, one after the other.

    Args:
        commands: The flags of each.
        folder: The directory of which to record what this process writes.
        devices: The number of devices into which to divide the CPU.
        cut: The index of the command to end by Ctrl-C after its first epoch.

    Returns:
        Statuses, what went to standard error, and the paths that were written.
    """
    if devices > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        parts = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(cpu, parts)
    from reproduce import runner
    from reproduce.__main__ import main

    whole = runner.BackupAndRestore

    class Cut(whole):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            raise KeyboardInterrupt

    written = []

    def watch(event, arguments):
        changes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
        if event == "open":
            changes = arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if changes and str(arguments[0]).startswith(folder):
            written.append(str(arguments[0]))

    sys.addaudithook(watch)
    statuses, errors = [], []
    for index, command in enumerate(commands):
        runner.BackupAndRestore = Cut if index == cut else whole
        with contextlib.redirect_stderr(io.StringIO()) as error:
            statuses.append(main(command.split()))
        errors.append(error.getvalue())
    return {"statuses": statuses, "errors": errors, "written": written}
