"""`DistributedDataParallel` over two processes gives one process's weights."""

import importlib.util
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)

FILE = pathlib.Path(__file__).with_name("torch_processes.py")
NAMES = ["fused", "subclassed", "sequence", "chunk"]


def start(folder, **environment):
    return subprocess.Popen(
        [sys.executable, FILE, folder, *NAMES],
        env={
            **os.environ,
            "KERAS_BACKEND": "torch",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_processes_equal_one(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    # As `torchrun` sets them.
    cluster = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    processes = [start(tmp_path)]
    processes += [start(tmp_path, RANK=str(i), **cluster) for i in range(2)]
    try:
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output[-3000:]
    finally:
        for process in processes:
            process.kill()
    for name in NAMES:
        one, first, second = (
            json.loads((tmp_path / f"{name}_{part}.json").read_text())
            for part in ("1_0", "2_0", "2_1")
        )
        assert first == second
        for actual, expected in zip(first, one):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)
