"""The programs of the page on many devices run in two processes."""

import importlib.util
import pathlib
import re

import other_backend
import pytest

pytestmark = pytest.mark.only(
    "tensorflow", reason="starts the other backends itself"
)
ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/scaling.md"


def cluster(backend, port, index):
    """Returns what the launcher of a backend puts into the environment."""
    if backend == "jax":
        return {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
            "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
        }
    return {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "RANK": str(index),
    }


@pytest.mark.parametrize(
    "backend, reader",
    [
        pytest.param(
            "jax",
            None,
            marks=pytest.mark.since("3.13", reason="no `data_shard_id`"),
        ),
        ("jax", "grain"),
        ("torch", None),
    ],
    ids=["jax", "grain", "torch"],
)
def test_examples_run(backend, reader, tmp_path):
    for name in filter(None, (backend, reader)):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    blocks = re.findall(
        r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE
    )
    blocks = [b for b in blocks if f'"KERAS_BACKEND"] = "{backend}"' in b]
    (block,) = [b for b in blocks if ("import grain" in b) == bool(reader)]
    program = tmp_path / "train.py"
    program.write_text(block)
    port = other_backend.free_port()
    outputs = other_backend.finish(
        *(
            other_backend.start(
                backend, [program], **cluster(backend, port, index)
            )
            for index in range(2)
        )
    )
    last = [output.strip().splitlines()[-1] for output in outputs]
    # The loss of JAX is that of the global batch; the sum of PyTorch's weights.
    assert last[0] == last[1]
