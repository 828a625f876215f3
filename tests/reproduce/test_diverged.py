"""A run whose loss or weights are not finite ends, and keeps what was good."""

import keras
import numpy as np
import pytest

from reproduce.common.backup import BackupAndRestore
from reproduce.common.diverged import StopDiverged
from reproduce.common.errors import InputError

EPOCHS = 4
# Twelve rows in batches of four.
STEPS = 3
X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def _model(seed, units=8):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(1),
        ]
    )
    # Tracing takes seconds, these few updates do not.
    model.compile(keras.optimizers.Adam(0.01), "mse", run_eagerly=True)
    return model


def _fit(model, *callbacks, epochs=EPOCHS, verbose=0):
    return model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    )


def _numbers(model):
    # `variables` has the random states of dropout too.
    return [v.numpy() for v in [*model.variables, *model.optimizer.variables]]


def _assert_same(model, expected):
    for ours, theirs in zip(_numbers(model), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Seen(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def _csv(path):
    return keras.callbacks.CSVLogger(str(path), append=True)


@pytest.fixture(scope="module")
def whole():
    model = _model(1)
    _fit(model)
    return _numbers(model)


class Spoil(keras.callbacks.Callback):
    """Puts a value into a weight before or after an update."""

    def __init__(self, update, value=np.nan, when="before"):
        super().__init__()
        self.update = update
        self.value = value
        self.when = when

    def _spoil(self, update, when):
        if (update, when) == (self.update, self.when):
            weight = self.model.trainable_variables[0]
            weight.assign(keras.ops.full_like(weight, self.value))

    def on_train_batch_begin(self, batch, logs=None):
        self._spoil(self.model.optimizer.iterations.numpy() + 1, "before")

    def on_train_batch_end(self, batch, logs=None):
        self._spoil(self.model.optimizer.iterations.numpy(), "after")


# Keras's CSVLogger leaves its file open when an exception ends `fit`.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (Spoil(2 * STEPS + 2), "a finite training loss. Received: nan, after"),
        (Spoil(2 * STEPS + 2, 1e30), "a finite training loss. Received: inf"),
        # No loss of this epoch tells.
        (Spoil(3 * STEPS, when="after"), "finite weights. Received: nan or"),
    ],
)
def test_diverged_run_stops_and_writes_nothing_of_the_epoch(
    tmp_path, whole, spoil, message
):
    log, best = tmp_path / "log.csv", tmp_path / "{epoch}.weights.h5"
    callbacks = [
        StopDiverged(),
        _csv(log),
        keras.callbacks.ModelCheckpoint(str(best), save_weights_only=True),
        BackupAndRestore(tmp_path / "backup", logs=[log]),
    ]
    with pytest.raises(InputError, match=message) as caught:
        _fit(_model(1), spoil, *callbacks)
    assert f"after update {spoil.update}." in str(caught.value)
    assert "lower --learning-rate" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {
        "backup",
        "log.csv",
        "1.weights.h5",
        "2.weights.h5",
    }
    assert len(log.read_text().splitlines()) == 1 + 2
    model, seen = _model(2), Seen()
    _fit(model, seen, *callbacks)
    assert seen.epochs == [2, 3]
    _assert_same(model, whole)
