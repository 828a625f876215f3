"""Two replicas in one process."""

import numpy as np
import pytest
from cluster import Cluster

pytestmark = pytest.mark.only(
    "tensorflow", reason="`tf.distribute` is TensorFlow's"
)
WITH_PLAIN = ["weights", "ragged"]
WITH_ONE_DEVICE = ["chunk", "two_outputs"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("mirrored"))
    (result,) = cluster.run(
        "mirrored",
        0,
        with_plain=WITH_PLAIN,
        with_one_device=WITH_ONE_DEVICE,
    )
    yield result
    cluster.close()


def close(one, other):
    np.testing.assert_allclose(one, other, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("name", WITH_PLAIN)
def test_equal_passes_equal_plain_keras(found, name):
    ours = found["results"][f"{name} rdrop"]
    plain = found["results"][f"{name} plain"]
    for key, values in plain["logs"].items():
        close(ours["logs"][key], values)
    close(ours["logs"]["task_loss"], plain["logs"]["loss"])
    close(ours["logs"]["consistency_loss"], 0.0)
    assert list(ours["evaluate"]) == list(plain["evaluate"])
    for key, values in plain["evaluate"].items():
        close(ours["evaluate"][key], values)
    # Not the count of calls: plain training has half as many.
    for one, other in zip(ours["weights"][:4], plain["weights"]):
        close(one, other)


@pytest.mark.parametrize("name", WITH_ONE_DEVICE)
def test_two_replicas_equal_one_device(found, name):
    two = found["results"][f"{name} two"]
    one = found["results"][f"{name} one"]
    assert list(two["logs"]) == list(one["logs"])
    assert min(two["logs"]["consistency_loss"]) > 0
    for key, values in one["logs"].items():
        np.testing.assert_allclose(
            two["logs"][key], values, rtol=5e-6, atol=2e-6
        )
    for values, others in zip(two["weights"], one["weights"], strict=True):
        close(values, others)


def test_masks_differ_between_replicas(found):
    first, second = found["masks"]["runs"]
    assert first == second
    assert first[0] != first[1]
    assert {0, 2} == set(first[0]) == set(first[1])
    # What files and backups see is the same on both.
    assert found["masks"]["seeds"][0] == found["masks"]["seeds"][1]


@pytest.mark.parametrize(
    "name, named",
    [
        ("accumulation", "gradient_accumulation_steps=2"),
        ("moving_average", "ema_overwrite_frequency=3"),
        ("jit", "jit_compile=True"),
        ("several_steps", "steps_per_execution=2"),
    ],
)
def test_what_keras_cannot_do_is_refused_by_name(found, name, named):
    refused = found["refused"]
    assert refused[f"{name} rdrop"].startswith("ValueError: Expected")
    assert named in refused[f"{name} rdrop"]
    # The day that Keras can, the refusal must go.
    assert f"{name} plain" in refused


def test_a_compiled_model_is_taken_over_in_a_scope(found):
    assert "SGD at iteration 0" in found["taken over"]
