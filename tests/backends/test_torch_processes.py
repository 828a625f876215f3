"""Two processes of PyTorch train as one does."""

import importlib.util
import json
import pathlib

import numpy as np
import other_backend
import pytest

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
RUNS = [f"loop:{name}" for name in LOOPS] + [f"fit:{name}" for name in FITS]
# Keras 3.15 reports those of each process's own rows.
OWN_METRICS = {"accuracy", "a_loss", "b_loss"}


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
