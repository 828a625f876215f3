"""Programs that run on a Keras backend of their own."""

import importlib.util
import os
import socket
import subprocess
import sys

import pytest

# Compilation takes most of the time on JAX.
FAST_COMPILATION = (
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)


def environment(backend, devices=1, **more):
    """Returns the environment of a program on a backend.

    Args:
        backend: The Keras backend.
        devices: The number of devices into which JAX divides the CPU.
        **more: Other variables.
    """
    if backend == "jax":
        count = f"--xla_force_host_platform_device_count={devices}"
        more = {"XLA_FLAGS": f"{FAST_COMPILATION} {count}", **more}
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **more,
    }


def run(backend, program, folder, devices=1):
    """Runs a program in a folder and returns what it prints.

    Skips the test if the backend is not installed.
    """
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(backend, devices),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def start(backend, arguments, devices=1, **more):
    """Starts a Python program on a backend, beside others."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        env=environment(backend, devices, **more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    """Waits for programs that all succeed, and returns what they print."""
    outputs = []
    try:
        for process in processes:
            output, errors = process.communicate(timeout=900)
            assert process.returncode == 0, errors[-3000:]
            outputs.append(output)
    finally:
        # The others would wait for one that failed.
        for process in processes:
            process.kill()
    return outputs


def free_port():
    """Returns a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
