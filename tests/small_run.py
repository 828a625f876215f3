"""A training run of four epochs of three updates, for tests of callbacks."""

import keras
import numpy as np

EPOCHS = 4
# Twelve rows in batches of four.
STEPS = 3
X = np.random.default_rng(0).normal(size=(12, 5)).astype("float32")
Y = X.sum(axis=1, keepdims=True)


def small_model(seed, units=8):
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


def fit_small(model, *callbacks, epochs=EPOCHS, verbose=0):
    return model.fit(
        X,
        Y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=verbose,
        callbacks=list(callbacks),
    )


def numbers_of(model):
    # `variables` has the random states of dropout too.
    # Copies: on PyTorch arrays share their memory with the variables.
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(v).copy() for v in variables]


def assert_same(model, expected):
    for ours, theirs in zip(numbers_of(model), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


class Seen(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append(epoch)


def csv_logger(path):
    return keras.callbacks.CSVLogger(str(path), append=True)
