"""Runs on several devices, in one process and in several."""

import csv
import json

import keras
import numpy as np
import other_backend
import pytest
from cluster import Cluster

from reproduce.__main__ import main
from reproduce.common import runs
from reproduce.common import strategies
from reproduce.common.clusters import PROCESSES
from reproduce.common.clusters import check_cluster
from reproduce.common.clusters import check_processes
from reproduce.common.errors import InputError

on_tensorflow = pytest.mark.only(
    "tensorflow", reason="`tf.distribute` is TensorFlow's"
)
# 242 rows in batches of 64, the last of 50.
DIABETES = (
    "train text_classification --task=diabetes --batch-size=64 --epochs=2"
)
PLAIN = f"{DIABETES} --dropout=0 --arm=plain"


def history_of(output):
    with (output / runs.HISTORY).open() as file:
        return {
            (row["epoch"], name): float(value)
            for row in csv.DictReader(file)
            for name, value in row.items()
        }


def metrics_of(output):
    return json.loads((output / runs.METRICS).read_text())


def assert_same_run(one, other, tolerance=2e-6):
    """Compares curves, measures, weights and the names of the files."""
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    curves, others = history_of(one), history_of(other)
    assert list(curves) == list(others)
    np.testing.assert_allclose(
        list(curves.values()), list(others.values()), rtol=tolerance
    )
    for part in ("valid", "test"):
        measured, expected = (metrics_of(x)[part] for x in (one, other))
        assert list(measured) == list(expected)
        np.testing.assert_allclose(
            list(measured.values()), list(expected.values()), rtol=tolerance
        )
    models = [
        keras.saving.load_model(x / runs.MODEL, compile=False)
        for x in (one, other)
    ]
    for weight, same in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(weight, same, rtol=0, atol=tolerance)


# --- TensorFlow --------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="module")
def on_one_host(cluster, tmp_path_factory):
    """Runs of one process, on one device and on two replicas."""
    folder = tmp_path_factory.mktemp("one")
    names = ("none", "mirrored")
    (found,) = cluster.run(
        "program",
        0,
        commands=[
            f"{PLAIN} --strategy={name} --output={folder / name}"
            for name in names
        ],
        folder=str(folder),
        devices=2,
    )
    assert found["statuses"] == [0, 0], found["errors"]
    return [folder / name for name in names]


@on_tensorflow
def test_two_replicas_equal_one_device(on_one_host):
    none, mirrored = on_one_host
    assert_same_run(mirrored, none)
    assert metrics_of(mirrored)["devices"] == {
        "strategy": "mirrored",
        "devices": 2,
        "processes": 1,
    }


@on_tensorflow
def test_two_workers_equal_one_process(cluster, on_one_host, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train = f"{PLAIN} --strategy=multi_worker --output="
    chief, other = cluster.run(
        "program",
        2,
        commands=[
            f"{train}{whole}",
            f"{train}{whole}",
            f"{train}{cut}",
            f"{train}{cut} --resume",
            f"{train}{whole} --resume",
        ],
        folder=str(tmp_path),
        cut=2,
    )
    for worker in (chief, other):
        assert worker["statuses"] == [0, 2, 130, 0, 0], worker["errors"]
    assert "holds a finished run. Give --resume" in chief["errors"][1]
    assert "refused by process 0, which says why" in other["errors"][1]
    # The other worker makes the same files elsewhere.
    assert chief["written"] and not other["written"]
    assert_same_run(whole, on_one_host[0])
    assert_same_run(cut, whole, tolerance=0)
    assert metrics_of(whole)["devices"]["processes"] == 2


# --- JAX ---------------------------------------------------------------------

PROGRAM = """
import sys
from reproduce.__main__ import main

for command in sys.argv[1:]:
    assert main(command.split()) == 0
"""


def start_jax(commands, devices, **environment):
    return other_backend.start(
        "jax", ["-c", PROGRAM, *commands], devices, **environment
    )


@pytest.mark.since("3.13", reason="no public number of processes")
def test_devices_and_processes_of_jax_equal_one_device(tmp_path):
    pytest.importorskip("jax")
    names = ("none", "devices", "processes")
    one, devices, processes = (tmp_path / name for name in names)
    train = f"{DIABETES} --dropout=0.2 --strategy="
    parallel = f"{train}data_parallel --output="
    other_backend.finish(
        start_jax([f"{train}none --output={one}", f"{parallel}{devices}"], 2)
    )
    address = f"127.0.0.1:{other_backend.free_port()}"
    printed = other_backend.finish(
        *(
            start_jax(
                [f"{parallel}{processes}"],
                1,
                **dict(zip(PROCESSES, (address, "2", index))),
            )
            for index in ("0", "1")
        )
    )
    assert "written to" in printed[0] and "written to" not in printed[1]
    # Masks do not depend on the devices.
    assert_same_run(devices, one)
    assert_same_run(processes, one)
    assert metrics_of(processes)["devices"] == {
        "strategy": "data_parallel",
        "devices": 2,
        "processes": 2,
    }


# --- errors ------------------------------------------------------------------


def refuse(capsys, tmp_path, command):
    """Returns the line with which the program refuses a command."""
    output = tmp_path / "output"
    assert main([*command.split(), f"--output={output}"]) == 2
    assert not output.exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_strategies_of_another_backend_are_refused(capsys, tmp_path):
    backend = keras.backend.backend()
    wanted = {"mirrored": "tensorflow", "multi_worker": "tensorflow"}
    wanted["data_parallel"] = "jax"
    for name, needed in wanted.items():
        if needed != backend:
            line = refuse(capsys, tmp_path, f"{DIABETES} --strategy={name}")
            assert f"expected KERAS_BACKEND={needed}, got {backend}" in line


@on_tensorflow
@pytest.mark.parametrize(
    "command, message",
    [
        (
            "train translation --accumulate=2",
            "Give --accumulate 1 and 2 times as",
        ),
        ("train translation --jit-compile=yes", "Give auto or no"),
        (DIABETES, "expected TF_CONFIG="),
    ],
)
def test_what_workers_cannot_do_is_refused(
    capsys, tmp_path, monkeypatch, command, message
):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    line = refuse(capsys, tmp_path, f"{command} --strategy=multi_worker")
    assert message in line


class Eight(strategies.Strategy):
    devices = 8
    processes = 2


def test_batch_size_and_verb_have_to_fit(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(strategies, "_started", lambda name: Eight())
    line = refuse(capsys, tmp_path, f"{DIABETES} --batch-size=30")
    assert "--batch-size 30: expected a multiple of 8" in line
    line = refuse(capsys, tmp_path, "compare image_classification")
    assert "compare runs in one process" in line


def cluster_of(index, job="worker", workers=("a:1", "b:1")):
    task = {"type": job, "index": index}
    return json.dumps({"cluster": {job: workers}, "task": task})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"cluster": {"worker": ["a:1"]}}',
        cluster_of(2),
        cluster_of("0"),
        cluster_of(0, job="chief"),
        cluster_of(0, workers=["a"]),
    ],
)
def test_a_wrong_cluster_is_refused(text):
    check_cluster(cluster_of(1))
    with pytest.raises(InputError, match="expected TF_CONFIG=.*, got "):
        check_cluster(text)


@pytest.mark.parametrize(
    "values", [("a:1",), ("a:1", "2"), ("a:1", "2", "2"), ("", "2", "0")]
)
def test_wrong_processes_are_refused(values):
    check_processes(dict(zip(PROCESSES, ("a:1", "2", "1"))))
    with pytest.raises(InputError, match="expected the address .*, got "):
        check_processes(dict(zip(PROCESSES, values)))
