"""Every setting gives the same numbers on TensorFlow, JAX and PyTorch."""

import importlib.util
import json
import pathlib

import numpy as np
import other_backend
import pytest

pytestmark = pytest.mark.only(
    "tensorflow", reason="starts the other backends itself"
)
FILE = pathlib.Path(__file__).with_name("cases.py")
BACKENDS = ("tensorflow", "jax", "torch")
OTHERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(name) is None,
            reason=f"{name} is not installed",
        ),
    )
    for name in ("jax", "torch")
]
# Keras runs one step per call on PyTorch, and `torch.compile` takes minutes.
NOT_ON_TORCH = {"several_steps", "jit"}
# Rounding of half precision, in relation to numbers of about 1.
LOOSE = {"mixed_bfloat16": 0.02, "mixed_float16": 0.002}
# `perplexity` is an exponential, and up to 20 here.
PERPLEXITY = 5e-5


def spawn(backend, folder):
    """Starts the training of all cases in a process of its own."""
    path = folder / f"{backend}.json"
    left_out = NOT_ON_TORCH if backend == "torch" else set()
    chosen = [name for name in names() if name not in left_out]
    process = other_backend.start(
        backend, [FILE, path, *chosen], TF_CPP_MIN_LOG_LEVEL="3"
    )
    return process, path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backends")
    found = {}
    for backend in BACKENDS:
        if importlib.util.find_spec(backend) is None:
            continue
        process, path = spawn(backend, folder)
        other_backend.finish(process, timeout=1800)
        found[backend] = json.loads(path.read_text())
    return found


def names():
    spec = importlib.util.spec_from_file_location("backend_cases", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.cases())


@pytest.mark.parametrize("backend", OTHERS)
@pytest.mark.parametrize("name", names())
def test_equals_tensorflow(results, backend, name):
    if backend == "torch" and name in NOT_ON_TORCH:
        pytest.skip("Keras refuses it, or it takes minutes")
    expected, actual = results["tensorflow"][name], results[backend][name]
    assert "error" not in expected, expected
    assert "error" not in actual, actual
    tolerance = LOOSE.get(name, 2e-6)
    for part in ("logs", "evaluate"):
        assert list(actual[part]) == list(expected[part])
        for key, values in expected[part].items():
            bound = max(
                tolerance, PERPLEXITY if "perplexity" in key else tolerance
            )
            np.testing.assert_allclose(
                actual[part][key], values, rtol=tolerance, atol=bound
            )
    for one, other in zip(actual["weights"], expected["weights"]):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


@pytest.mark.parametrize("backend", OTHERS)
def test_trains(results, backend):
    """The numbers are not equal because nothing happens."""
    for name, result in results[backend].items():
        loss = result["logs"]["loss"]
        assert loss[0] != loss[1], name
        assert min(result["logs"]["consistency_loss"]) > 0, name
