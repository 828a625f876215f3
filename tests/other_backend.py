"""Programs that run on a Keras backend of their own."""

import concurrent.futures
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


def finish(*processes, timeout=900):
    """Waits for programs that all succeed, and returns what they print.

    If one fails, the others are killed: they would wait for it.
    """

    reasons = []

    def kill(reason):
        reasons.append(reason)
        for process in processes:
            process.kill()

    def finish_one(process):
        try:
            printed = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            kill(f"still runs after {timeout} seconds")
            printed = process.communicate()
        if process.returncode:
            kill(f"exit status {process.returncode}")
        return printed

    # All are read at once: a program whose pipe is full stands still.
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as threads:
        try:
            printed = list(threads.map(finish_one, processes))
        finally:
            for process in processes:
                process.kill()
    assert not reasons, (reasons[0], [errors[-3000:] for _, errors in printed])
    return [output for output, _ in printed]


def free_port():
    """Returns a port of this machine on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
