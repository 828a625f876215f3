"""Checks of the environment variables that describe several processes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from reproduce.common.errors import InputError

# The variables that `keras.distribution.initialize` reads.
PROCESSES = tuple(
    f"KERAS_DISTRIBUTION_{name}"
    for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
)
EXPECTED = (
    '{"cluster": {"worker": ["HOST:PORT", ...]}, '
    '"task": {"type": "worker", "index": 0}}'
)


def check_cluster(text: str) -> None:
    """Raises `InputError` if `TF_CONFIG` has no place for this process."""
    try:
        found = json.loads(text)
        cluster, task = found["cluster"], found["task"]
        workers = dict(enumerate(cluster["worker"]))
        fits = (
            set(cluster) == {task["type"]} == {"worker"}
            and task["index"] in workers
            and all(":" in address for address in workers.values())
        )
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise InputError(
            f"--strategy multi_worker: expected TF_CONFIG={EXPECTED} in the "
            f"environment, got {text or 'none'}. The scripts in "
            "reproduce/launch set it."
        )


def check_processes(environment: Mapping[str, str]) -> None:
    """Raises `InputError` if JAX's processes are described incompletely."""
    found = {name: environment.get(name, "") for name in PROCESSES}
    addresses, count, index = found.values()
    numbers = count.isdigit() and index.isdigit()
    if not (addresses and numbers and int(index) < int(count)):
        shown = ", ".join(f"{k}={v or 'none'}" for k, v in found.items())
        raise InputError(
            "--strategy data_parallel: expected the address of process 0, the "
            "number of processes, and the index of this process below it, got "
            f"{shown}. One process needs no such variables."
        )
