"""Two processes of PyTorch train as one does."""

import importlib.util
import json
import pathlib

import keras
import numpy as np
import other_backend
import pytest
from packaging.version import Version

pytestmark = [
    pytest.mark.only("tensorflow", reason="starts torch itself"),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed",
    ),
]

FILE = pathlib.Path(__file__).with_name("torch_processes.py")
LOOPS = ["fused", "subclassed", "sequence", "chunk"]
FITS = [*LOOPS, "two_outputs", "every", "accumulation"]
RUNS = [
    *(f"loop:{name}" for name in LOOPS),
    *(f"fit:{name}" for name in FITS),
    "failing:fused",
    "uneven:fused",
]
# Before 3.16 Keras reports these for the rows of each process.
OWN_METRICS = (
    {"accuracy", "a_loss", "b_loss"}
    if Version(keras.__version__) < Version("3.16")
    else set()
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Returns what one process wrote, and each of two."""
    folder = tmp_path_factory.mktemp("processes")
    # As `torchrun` sets them.
    cluster = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(other_backend.free_port()),
        "WORLD_SIZE": "2",
    }
    other_backend.finish(
        *(
            other_backend.start(
                "torch", [FILE, folder, *RUNS], OMP_NUM_THREADS="1", **settings
            )
            for settings in (
                {},
                {**cluster, "RANK": "0"},
                {**cluster, "RANK": "1"},
            )
        )
    )
    return [
        json.loads((folder / f"{part}.json").read_text())
        for part in ("1_0", "2_0", "2_1")
    ]


def assert_close(actual, expected):
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", LOOPS)
def test_two_processes_equal_one(results, name):
    """`DistributedDataParallel` around `compute_rdrop_loss`."""
    one, first, second = (found[f"loop:{name}"] for found in results)
    assert first == second
    assert_close(first, one)


@pytest.mark.parametrize("name", FITS)
def test_fit_in_two_processes_equals_one(results, name):
    """Of a model that `fit` has wrapped, as in Keras 3.16."""
    one, first, second = (found[f"fit:{name}"] for found in results)
    assert first["weights"] == second["weights"]
    assert_close(first["weights"], one["weights"])
    names = set(one["logs"]) - OWN_METRICS
    assert names >= {"loss", "task_loss", "consistency_loss"}
    for key in names:
        assert first["logs"][key] == second["logs"][key]
        # Perplexity is up to 20 here.
        np.testing.assert_allclose(
            first["logs"][key], one["logs"][key], rtol=2e-6, atol=2e-6
        )


def test_the_first_batch_fails_in_all_processes_together(results):
    one, first, second = (found["failing:fused"] for found in results)
    assert first == one
    assert "identical" in first
    assert second.startswith("Expected the first batch to pass the checks of")


def test_a_gradient_that_one_process_lacks_counts_as_zero(results):
    one, first, second = (found["uneven:fused"] for found in results)
    assert one == [None, None, [1.0], [1.0]]
    assert first == second == [[1.0], None, [1.5], [1.5]]
