"""The softmax of both kinds against NumPy, and who is told of XLA."""

import autodiff
import keras
import numpy as np
import pytest
import reference

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.closed_form import xla
from rdrop_keras.closed_form.softmax import Softmax


@pytest.fixture(params=[False, True], ids=["library", "written out"])
def told(request):
    with xla.compiling(request.param):
        yield request.param


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1e3, -1e3])
def test_equals_numpy(shift, jit_compile, told, rng):
    logits = (rng.normal(size=(3, 4, 7)) * 5 + shift).astype("float32")
    exact = np.log(reference.softmax(logits.astype("float64")))

    def run(logits):
        found = Softmax.of(logits)
        return found.probabilities, found.log_probabilities()

    run = autodiff.compiled(run, jit_compile)
    probabilities, logs = run(keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(probabilities, np.exp(exact), rtol=2e-6)
    np.testing.assert_allclose(logs, exact, rtol=1e-6, atol=2e-4)


def test_forbidden_classes(told):
    found = Softmax.of(keras.ops.convert_to_tensor([[0.0, -np.inf, 0.0]]))
    np.testing.assert_allclose(found.probabilities, [[0.5, 0.0, 0.5]])
    np.testing.assert_allclose(found.normalizer, [[np.log(2)]], rtol=1e-6)


def test_one_class(told):
    found = Softmax.of(keras.ops.convert_to_tensor([[3.0]]))
    np.testing.assert_array_equal(found.probabilities, [[1.0]])
    np.testing.assert_array_equal(found.log_probabilities(), [[0.0]])


def test_most_probable(told, rng):
    # Small integers, so that many are equal: the first of them counts.
    logits = rng.integers(0, 3, size=(200, 5)).astype("float32")
    labels = rng.integers(0, 5, size=200)
    found = Softmax.of(keras.ops.convert_to_tensor(logits)).is_most_probable(
        keras.ops.convert_to_tensor(labels, "int32")
    )
    np.testing.assert_array_equal(found, logits.argmax(axis=-1) == labels)


def test_nothing_is_most_probable_among_nan():
    with xla.compiling(True):
        found = Softmax.of(
            keras.ops.convert_to_tensor([[0.0, np.nan], [np.nan] * 2])
        )
        right = found.is_most_probable(keras.ops.convert_to_tensor([0, 1]))
    np.testing.assert_array_equal(right, [False, False])


@pytest.mark.parametrize("vocabulary_chunk", [None, 4])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_training_tells_of_xla(jit_compile, vocabulary_chunk, monkeypatch):
    seen = []
    original = Softmax.of.__func__

    def record(cls, logits):
        seen.append(xla.is_compiling())
        return original(cls, logits)

    monkeypatch.setattr(Softmax, "of", classmethod(record))
    model = RDropModel.from_model(
        keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dropout(0.5),
                keras.layers.Dense(4),
            ]
        )
    )
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=RDrop(vocabulary_chunk=vocabulary_chunk),
        jit_compile=jit_compile,
    )
    model.train_on_batch(np.ones((2, 3)), np.array([0, 1]))
    # The first batch is looked at eagerly before the step is compiled.
    assert seen[-1] == jit_compile and set(seen) == {False, jit_compile}
    assert not xla.is_compiling()
