"""Waiting for the other workers of a cluster."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from collections.abc import Sequence

_JOBS = ("chief", "worker")


def wait_for_workers(
    cluster: Mapping[str, Sequence[str]],
    task_type: str | None,
    task_id: int | None,
    timeout: float,
) -> None:
    """Waits until all workers of a cluster have been started.

    Every worker listens at its own address while it waits. TensorFlow's server
    takes the address over afterwards, so a late worker finds either of them.

    Args:
        cluster: The addresses, `host:port`, of each job.
        task_type: The job of this worker.
        task_id: Its index in the job.
        timeout: The number of seconds to wait.

    Raises:
        TimeoutError: If a worker has not started in time.
    """
    own = (task_type, task_id)
    missing = {
        (job, index): address
        for job in _JOBS
        for index, address in enumerate(cluster.get(job, ()))
        if (job, index) != own
    }
    if not missing or task_type not in _JOBS:
        return
    port = int(cluster[task_type][task_id or 0].rpartition(":")[2])
    end = time.monotonic() + timeout
    with _server(port):
        while True:
            missing = {k: v for k, v in missing.items() if not _listens(v)}
            if not missing:
                return
            if time.monotonic() >= end:
                break
            time.sleep(0.1)
    listed = ", ".join(f"{job} {i} at {at}" for (job, i), at in missing.items())
    raise TimeoutError(
        f"Expected all workers to start within {timeout:g} seconds. No answer "
        f"from: {listed}. Check that the program runs on each of them with the "
        "same cluster in TF_CONFIG and with an index of its own, and that the "
        "ports are open. If the workers need longer to start, pass "
        "`MultiWorkerMirroredStrategy(timeout=...)`."
    )


def _server(port: int) -> socket.socket:
    """Listens on all addresses of this host, by IPv4 and where it has IPv6."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6,
            dualstack_ipv6=True,
            reuse_port=True,
        )
    return socket.create_server(("", port), reuse_port=True)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        socket.create_connection((host.strip("[]"), int(port)), 1.0).close()
        return True
    return False
