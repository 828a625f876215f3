"""The package needs Keras, NumPy and one backend, and no TensorFlow."""

import other_backend
import pytest

pytestmark = pytest.mark.only(
    "tensorflow", reason="starts the other backends itself"
)
PROGRAM = """
import sys

# As if it were not installed.
sys.modules["tensorflow"] = None

import keras
import numpy as np
import rdrop_keras
from rdrop_keras import RDrop, RDropModel, callbacks

rng = np.random.default_rng(0)
x = rng.integers(1, 20, (64, 6))
y = (x[:, :1] + x) % 20
inputs = keras.Input((6,), dtype="int32")
hidden = keras.layers.Embedding(20, 16, mask_zero=True)(inputs)
hidden = keras.layers.Dropout(0.1)(hidden)
model = RDropModel(inputs, keras.layers.Dense(20)(hidden))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, rdrop=RDrop(5.0, vocabulary_chunk="auto"))
watched = [
    callbacks.ConsistencyMonitor((x, y)),
    callbacks.BackupAndRestore("backup"),
    keras.callbacks.ModelCheckpoint("best.keras", monitor="loss"),
]
history = model.fit(x, y, epochs=2, callbacks=watched, verbose=0).history
assert history["loss"][1] < history["loss"][0]
assert {"consistency_loss", "submodel_kl", "perplexity"} <= set(history)
loaded = keras.models.load_model("best.keras")
assert loaded.rdrop.alpha == 5.0
np.testing.assert_allclose(
    loaded.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5
)
loaded.fit(x, y, verbose=0)
plain = keras.Sequential(
    [keras.layers.Dense(8), keras.layers.Dropout(0.2), keras.layers.Dense(1)]
)
trainer = RDropModel.from_model(plain)
trainer.compile("sgd", "mse", rdrop=1.0)
trainer.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
print("trained")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trains_saves_and_loads(backend, tmp_path):
    printed = other_backend.run(backend, PROGRAM, tmp_path)
    assert printed.splitlines()[-1] == "trained"
