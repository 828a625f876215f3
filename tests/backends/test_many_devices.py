"""JAX on several devices, and in two processes, gives one device's numbers.

The runs are those of `cases.py`, whose masks are inputs. The devices are parts
of the CPU, each program in a process of its own.
"""

import importlib.util
import json
import pathlib

import numpy as np
import other_backend
import pytest

pytestmark = [
    pytest.mark.only("tensorflow", reason="starts jax itself"),
    pytest.mark.skipif(
        importlib.util.find_spec("jax") is None,
        reason="jax is not installed",
    ),
]

FOLDER = pathlib.Path(__file__).parent
ON_FOUR = ["fused", "two_outputs", "batch_normalization", "weights", "ragged"]
ON_EIGHT = ["calls", "every", "chunk_masked", "accumulation", "adam"]
IN_TWO_PROCESSES = ["fused", "chunk_masked"]

EVALUATED_FIRST = """
import keras
import numpy as np

from rdrop_keras import RDropModel

parallel = keras.distribution.DataParallel(auto_shard_dataset=False)
keras.distribution.set_distribution(parallel)
inputs = keras.Input((4,))
hidden = keras.layers.Dropout(0.5)(keras.layers.Dense(8)(inputs))
outputs = {name: keras.layers.Dense(1, name=name)(hidden) for name in "ab"}
model = RDropModel(inputs, outputs)
model.compile("sgd", {"a": "mse", "b": "mse"}, rdrop=1.0)
x = np.ones((8, 4), "float32")
y = {"a": x[:, :1], "b": x[:, 1:2]}
# The first batch of `fit` adds metrics for each output.
model.evaluate(x, y, batch_size=8, verbose=0)
history = model.fit(x, y, validation_data=(x, y), verbose=0).history
assert "b_consistency_loss" in history
loss, *_ = model.evaluate(x, y, batch_size=8, verbose=0)
np.testing.assert_allclose(history["val_loss"], [loss], rtol=1e-6)
print("equal")
"""

MASKS = """
import jax
import keras
import numpy as np

from rdrop_keras import RDropModel

seen = []


class Recorded(RDropModel):
    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        jax.debug.callback(lambda v: seen.append(np.array(v)), y_pred)
        return super().compute_loss(x, y, y_pred, sample_weight, training)


def train(distribution):
    keras.utils.clear_session(free_memory=False)
    keras.distribution.set_distribution(distribution)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(64, kernel_initializer="ones")(inputs)
    model = RDropModel(inputs, keras.layers.Dropout(0.5)(hidden))
    model.__class__ = type("R", (Recorded, type(model)), {})
    model.compile("sgd", "mse", rdrop=1.0)
    x = np.ones((8, 4), "float32")
    model.fit(x, np.zeros((8, 64)), batch_size=8, verbose=0)
    jax.effects_barrier()
    passes = [value != 0 for value in seen[-2:]]
    seen.clear()
    return passes, model.get_weights()


passes, weights = train(keras.distribution.DataParallel())
first, second = passes
assert len(np.unique(first, axis=0)) == len(np.unique(second, axis=0)) == 8
assert (first != second).any(axis=1).all()
on_one, expected = train(None)
np.testing.assert_array_equal(first, on_one[0])
np.testing.assert_array_equal(second, on_one[1])
for one, other in zip(weights, expected):
    np.testing.assert_allclose(one, other, atol=2e-6)
keras.distribution.set_distribution(keras.distribution.DataParallel())
keras.utils.clear_session()
assert keras.distribution.distribution() is None
print("equal")
"""

SHARDED_HEAD = """
import cases
import jax
import keras
import numpy as np

mesh = keras.distribution.DeviceMesh((2, 2), ("batch", "model"))
layout = keras.distribution.LayoutMap(mesh)
layout["head/kernel"] = (None, "model")
layout["head/bias"] = ("model",)
parallel = keras.distribution.ModelParallel(layout_map=layout)
shards = []


def build():
    model = cases.language_model(keras.layers.Dense(12, name="head"))
    head = model.get_layer("head").kernel.value
    shards.append([s.data.shape for s in head.addressable_shards])
    return model


def train(distribution):
    settings = cases.settings(vocabulary_chunk=4)
    case = cases.language(build, settings, padded=True)
    return cases.run(case, distribution=distribution)


sharded, whole = train(parallel), train(None)
assert shards == [[(8, 6)] * 4, [(8, 12)]], shards
for key, values in whole["logs"].items():
    # Perplexity is 15 here.
    np.testing.assert_allclose(sharded["logs"][key], values, 2e-6, 2e-6)
for one, other in zip(sharded["weights"], whole["weights"]):
    np.testing.assert_allclose(one, other, atol=2e-6)
print("equal")
"""


def start(program, *arguments, devices=1):
    return other_backend.start("jax", [FOLDER / program, *arguments], devices)


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "results.json"
    names = {*ON_FOUR, *ON_EIGHT, *IN_TWO_PROCESSES} - {"ragged"}
    other_backend.finish(start("cases.py", path, *sorted(names)))
    return json.loads(path.read_text())


def check_equal(actual, expected):
    assert "error" not in actual, actual
    for part in ("logs", "evaluate"):
        assert list(actual[part]) == list(expected[part])
        for key, values in expected[part].items():
            # Perplexity, up to 20 here, in relation to itself.
            np.testing.assert_allclose(actual[part][key], values, 2e-6, 2e-6)
    for one, other in zip(actual["weights"], expected["weights"]):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("devices, names", [(4, ON_FOUR), (8, ON_EIGHT)])
def test_data_parallel_equals_one_device(one_device, devices, names, tmp_path):
    path = tmp_path / "results.json"
    other_backend.finish(
        start("many_devices.py", path, *names, devices=devices)
    )
    results = json.loads(path.read_text())
    if "ragged" in names:
        error = results.pop("ragged")["error"]
        # A ValueError before JAX 0.10.
        assert error.startswith(("IndivisibleError: ", "ValueError: "))
        assert "should evenly divide the shape" in error
    assert len(results) >= 4
    for name, actual in results.items():
        check_equal(actual, one_device[name])


def test_two_processes_equal_one_device(one_device, tmp_path):
    port = other_backend.free_port()
    paths = [tmp_path / f"{index}.json" for index in range(2)]
    other_backend.finish(
        *(
            start(
                "many_devices.py",
                path,
                *IN_TWO_PROCESSES,
                "--process",
                index,
                "--port",
                port,
                devices=2,
            )
            for index, path in enumerate(paths)
        )
    )
    first, second = (json.loads(path.read_text()) for path in paths)
    assert first == second
    for name in IN_TWO_PROCESSES:
        check_equal(first[name], one_device[name])


@pytest.mark.parametrize(
    "program, devices",
    [(MASKS, 8), (SHARDED_HEAD, 4), (EVALUATED_FIRST, 2)],
    ids=[
        "masks_of_devices_differ",
        "sharded_vocabulary_head",
        "evaluated_first",
    ],
)
def test_program(program, devices, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    printed = other_backend.run("jax", program, tmp_path, devices)
    assert printed.splitlines()[-1] == "equal"
