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
KERAS_HUB = """
import sys

for name in ("tensorflow", "tensorflow_text"):
    sys.modules[name] = None

import keras
import keras_hub
import numpy as np
from rdrop_keras import RDropModel

words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film"]
tokenizer = keras_hub.tokenizers.BertTokenizer(words, lowercase=True)
preprocessor = keras_hub.models.BertTextClassifierPreprocessor(tokenizer, 8)
backbone = keras_hub.models.BertBackbone(
    vocabulary_size=len(words),
    num_layers=1,
    num_heads=2,
    hidden_dim=16,
    intermediate_dim=16,
    max_sequence_length=8,
)
task = keras_hub.models.BertTextClassifier(
    backbone, num_classes=2, dropout=0.5, preprocessor=preprocessor
)
before = task.get_weights()
trainer = RDropModel.from_model(task)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
trainer.compile("adam", loss, rdrop=5.0)
texts = ["good film", "bad film"] * 4
logs = trainer.fit(texts, np.array([1, 0] * 4), verbose=0).history
assert logs["consistency_loss"][0] > 0
np.testing.assert_allclose(
    logs["loss"][0] - logs["task_loss"][0],
    2.5 * logs["consistency_loss"][0],
    atol=1e-6,
)
assert not np.array_equal(before[0], task.get_weights()[0])
assert task.predict(texts, verbose=0).shape == (8, 2)
print("trained")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_trains_saves_and_loads(backend, tmp_path):
    printed = other_backend.run(backend, PROGRAM, tmp_path)
    assert printed.splitlines()[-1] == "trained"


def test_a_task_of_keras_hub_trains_on_strings(tmp_path):
    # KerasHub's preprocessing without TensorFlow.
    for package in ("grain", "keras_hub", "tokenizers"):
        pytest.importorskip(package)
    printed = other_backend.run("jax", KERAS_HUB, tmp_path)
    assert printed.splitlines()[-1] == "trained"
