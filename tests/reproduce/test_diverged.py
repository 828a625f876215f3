"""A run whose loss or weights are not finite ends, and keeps what was good."""

import keras
import numpy as np
import pytest
from small_run import STEPS
from small_run import Seen
from small_run import assert_same
from small_run import csv_logger
from small_run import fit_small
from small_run import numbers_of
from small_run import small_model

from reproduce.common.callbacks import BackupAndRestore
from reproduce.common.callbacks import StopDiverged
from reproduce.common.errors import InputError


@pytest.fixture(scope="module")
def whole():
    model = small_model(1)
    fit_small(model)
    return numbers_of(model)


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
        csv_logger(log),
        keras.callbacks.ModelCheckpoint(str(best), save_weights_only=True),
        BackupAndRestore(tmp_path / "backup", logs=[log]),
    ]
    with pytest.raises(InputError, match=message) as caught:
        fit_small(small_model(1), spoil, *callbacks)
    assert f"after update {spoil.update}." in str(caught.value)
    assert "lower --learning-rate" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {
        "backup",
        "log.csv",
        "1.weights.h5",
        "2.weights.h5",
    }
    assert len(log.read_text().splitlines()) == 1 + 2
    model, seen = small_model(2), Seen()
    fit_small(model, seen, *callbacks)
    assert seen.epochs == [2, 3]
    assert_same(model, whole)
