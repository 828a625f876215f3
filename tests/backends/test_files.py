"""A file that one backend writes is read by the others."""

import builders
import keras
import numpy as np
import other_backend
import pytest

from rdrop_keras import RDrop

PROGRAM = """
import keras
import numpy as np
import rdrop_keras

model = keras.models.load_model("before.keras")
assert model.rdrop == rdrop_keras.RDrop(3.0, num_passes=3)
assert int(model.optimizer.iterations) == 3
data = np.load("data.npz")
predictions = model.predict(data["x"], verbose=0)
np.testing.assert_allclose(predictions, data["predictions"], atol=1e-5)
model.fit(data["x"], data["y"], batch_size=16, verbose=0)
assert int(model.optimizer.iterations) == 6
np.save("after.npy", model.predict(data["x"], verbose=0))
model.save("after.keras")
"""


@pytest.mark.only("tensorflow", reason="starts the other backends itself")
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_training_goes_on_on_another_backend(backend, tmp_path):
    x, y = builders.data()
    model = builders.functional()
    model.compile(
        "adam", builders.cross_entropy(), rdrop=RDrop(3.0, num_passes=3)
    )
    model.fit(x, y, batch_size=16, verbose=0)
    model.save(tmp_path / "before.keras")
    predictions = model.predict(x, verbose=0)
    np.savez(tmp_path / "data.npz", x=x, y=y, predictions=predictions)
    other_backend.run(backend, PROGRAM, tmp_path)
    loaded = keras.models.load_model(tmp_path / "after.keras")
    after = np.load(tmp_path / "after.npy")
    np.testing.assert_allclose(loaded.predict(x, verbose=0), after, atol=1e-5)
    assert not np.allclose(after, predictions, atol=1e-5)
    assert loaded.rdrop == model.rdrop
