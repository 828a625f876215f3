"""`DistributedDataParallel` over two processes gives one process's weights."""

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
NAMES = ["fused", "subclassed", "sequence", "chunk"]


def start(folder, **environment):
    return other_backend.start(
        "torch", [FILE, folder, *NAMES], OMP_NUM_THREADS="1", **environment
    )


def test_two_processes_equal_one(tmp_path):
    # As `torchrun` sets them.
    cluster = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(other_backend.free_port()),
        "WORLD_SIZE": "2",
    }
    processes = [start(tmp_path)]
    processes += [start(tmp_path, RANK=str(i), **cluster) for i in range(2)]
    other_backend.finish(*processes)
    for name in NAMES:
        one, first, second = (
            json.loads((tmp_path / f"{name}_{part}.json").read_text())
            for part in ("1_0", "2_0", "2_1")
        )
        assert first == second
        for actual, expected in zip(first, one):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)
