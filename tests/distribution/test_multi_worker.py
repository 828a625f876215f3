"""Several workers of TensorFlow, as processes on this machine."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from cluster import Cluster

pytestmark = pytest.mark.only(
    "tensorflow", reason="`tf.distribute` is TensorFlow's"
)

# Each kill takes some ten seconds. docs/scaling.md reports ten.
KILLS = int(os.environ.get("RDROP_KERAS_KILLS", 2))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


def assert_close(actual, expected, tolerance=2e-6):
    for part in ("logs", "evaluate"):
        assert list(actual[part]) == list(expected[part])
        for key, values in expected[part].items():
            np.testing.assert_allclose(
                actual[part][key], values, rtol=tolerance, atol=tolerance
            )
    for one, other in zip(actual["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


def assert_identical(results):
    for result in results[1:]:
        for name in result:
            if name != "seconds":
                assert result[name] == results[0][name], name


@pytest.mark.parametrize(
    "workers, names", [(2, ["rdrop", "plain"]), (3, ["rdrop"])]
)
def test_equals_one_process(cluster, workers, names):
    (expected,) = cluster.run("train", 0, names=names, batch_size=6)
    found = cluster.run("train", workers, names=names, batch_size=6)
    assert_identical(found)
    for name in names:
        assert_close(found[0][name], expected[name])


def test_masks_differ_between_workers_and_not_between_runs(cluster):
    first, second = cluster.run("masks", 2)
    for worker in (first, second):
        assert worker["runs"][0] == worker["runs"][1]
        assert {0, 2} == set(np.ravel(worker["runs"]))
    assert first["runs"] != second["runs"]
    # What files and backups see is the same on all workers.
    assert first["seeds"] == second["seeds"]


def test_fit_with_callbacks_and_files(cluster, tmp_path):
    found = cluster.run("whole_fit", 2, folder=str(tmp_path))
    # Weights, moving statistics and random states are the same, too.
    assert_identical(found)
    history = found[0]["history"]
    assert len(history["val_loss"]) == 2
    np.testing.assert_allclose(
        history["val_loss"][-1], found[0]["evaluate"]["loss"], rtol=1e-6
    )
    model = keras.models.load_model(tmp_path / "model.keras")
    assert model.rdrop.alpha == 1.0
    kept = keras.models.load_model(tmp_path / "best.keras")
    for file in (model, kept):
        for weight, other in zip(file.weights, found[0]["files"], strict=True):
            np.testing.assert_allclose(np.ravel(weight), other, atol=1e-7)
    x = np.array(found[0]["x"], "float32")
    predicted = model.predict(x, verbose=0)
    exported = tf.saved_model.load(str(tmp_path / "exported"))
    np.testing.assert_allclose(exported.serve(x), predicted, atol=1e-6)
    assert list((tmp_path / "logs" / "train").iterdir())


def test_the_first_batch_fails_on_all_workers_together(cluster):
    other, own = cluster.run("failing_check", 2, failing=1)
    assert "identical outputs on the first training step" in own["error"]
    assert "failed on another worker" in other["error"]
    assert own["same"] and other["same"]


def test_killed_workers_resume_from_the_backup(cluster, tmp_path):
    folder, settings = str(tmp_path / "one"), {"epochs": KILLS + 1}
    expected, _ = cluster.run("backed_up", 2, folder=folder, **settings)
    folder = str(tmp_path / "two")
    for epoch in range(1, KILLS + 1):
        # One of three updates in each epoch, on the worker or on the chief.
        kill = [epoch % 2, 3 * epoch + 1 + epoch % 3]
        statuses, _, _ = cluster.start(
            "backed_up", 2, folder=folder, kill=kill, **settings
        )
        assert statuses[kill[0]] == -9
    found = cluster.run("backed_up", 2, folder=folder, **settings)
    assert_identical(found)
    assert found[0]["epochs"] == [KILLS]
    assert found[0]["weights"] == expected["weights"]
    assert found[0]["loss"] == expected["loss"][KILLS:]


def test_a_worker_that_never_comes_is_an_error(cluster):
    (found,) = cluster.run("waits_for_a_worker", 2, started=1, timeout=1.0)
    assert "Expected all workers to start within 1 seconds" in found["error"]
    assert "worker 1 at 127.0.0.1:" in found["error"]
    assert 1.0 <= found["seconds"] < 10


def test_keras_still_needs_the_strategy(cluster):
    """If this fails, delete `rdrop_keras.distribution`'s strategy."""
    found = cluster.run("keras_alone", 2)
    assert all(error is not None for error in found)
