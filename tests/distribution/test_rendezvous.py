"""Workers that wait for each other, as threads."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import free_ports

from rdrop_keras.distribution.rendezvous import wait_for_workers

IPV6 = pytest.mark.skipif(
    not socket.has_dualstack_ipv6(), reason="this machine has no IPv6"
)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", pytest.param("[::1]", marks=IPV6)]
)
def test_workers_meet(host):
    ports = free_ports(2)
    cluster = {"worker": [f"{host}:{port}" for port in ports]}

    def start(index):
        wait_for_workers(cluster, "worker", index, 5.0)
        # As TensorFlow does.
        family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
        return socket.create_server(("", ports[index]), family=family)

    with ThreadPoolExecutor() as threads:
        servers = list(threads.map(start, range(2)))
    assert [server.getsockname()[1] for server in servers] == ports
    for server in servers:
        server.close()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", pytest.param("[::1]", marks=IPV6)]
)
def test_a_missing_worker_is_named(host):
    own, other = free_ports(2)
    cluster = {"chief": [f"{host}:{own}"], "worker": [f"{host}:{other}"]}
    with pytest.raises(TimeoutError) as error:
        wait_for_workers(cluster, "chief", 0, 0.2)
    assert f"worker 0 at {host}:{other}." in str(error.value)
    # The port is free for TensorFlow's server.
    socket.create_server(("127.0.0.1", own)).close()


def test_alone_and_beside_the_workers_nobody_waits():
    cluster = {"worker": ["127.0.0.1:1"], "ps": ["127.0.0.1:2"]}
    start = time.monotonic()
    wait_for_workers(cluster, "worker", 0, 60.0)
    wait_for_workers(cluster, "ps", 0, 60.0)
    assert time.monotonic() - start < 1.0
