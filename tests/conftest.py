"""What every test runs under: a fixed seed, a clean Keras, strict warnings."""

import contextlib
import importlib.metadata
import os
import pathlib
import sys

from other_backend import FAST_COMPILATION

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# No cache on disk: JAX writes one that other processes and threads may read
# half-written.
if os.environ.get("KERAS_BACKEND") == "jax":
    os.environ.setdefault("XLA_FLAGS", FAST_COMPILATION)

# PyTorch before TensorFlow: the other order can crash on exit, as Keras's own
# conftest.py notes.
with contextlib.suppress(ImportError):
    import torch

import keras
import numpy as np
import pytest
from packaging.version import Version

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
# Behind site-packages, so that `rdrop_keras` is the installed wheel and only
# `reproduce` and `examples`, which are not installed, come from here.
sys.path.append(str(REPOSITORY))


# They take half of the time, most of it for files, flags and texts, which are
# alike everywhere. Those that need another backend start it themselves.
PROGRAMS = ("benchmarks", "examples", "reproduce")


def pytest_sessionstart(session):
    import rdrop_keras

    source = pathlib.Path(rdrop_keras.__file__).resolve().parent
    if os.environ.get("RDROP_KERAS_INSTALLED") and source.parent == REPOSITORY:
        raise pytest.UsageError(
            "Expected the tests to import the installed wheel. Received: "
            f"{source}."
        )


def pytest_collection_modifyitems(items):
    backend = keras.backend.backend()
    for item in items:
        reasons = [
            mark.kwargs["reason"]
            for mark in item.iter_markers("only")
            if backend not in mark.args
        ]
        reasons += filter(None, map(_is_old, item.iter_markers("since")))
        if backend != "tensorflow" and item.path.parent.name in PROGRAMS:
            reasons.append("programs are tested on TensorFlow")
        if backend == "torch" and _is_compiled(item):
            reasons.append("`torch.compile` takes a minute for each model")
        for reason in reasons:
            item.add_marker(pytest.mark.skip(reason=reason))


def _is_old(mark):
    """Returns why a test needs a later release, or None."""
    (version,) = mark.args
    package = mark.kwargs.get("package", "keras")
    try:
        found = Version(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return None
    if found < Version(version):
        return f"{package} {found}: {mark.kwargs['reason']}"
    return None


def _is_compiled(item):
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return "xla" in map(str, parameters.values()) or any(
        each.get("jit_compile") is True
        for each in [parameters, *parameters.values()]
        if isinstance(each, dict)
    )


def _let_numpy_read_outputs():
    """Lets NumPy read tensors that have a gradient, as on other backends.

    The library itself never relies on it: the programs of `tests/backends` run
    without this file.
    """
    as_array = torch.Tensor.__array__
    torch.Tensor.__array__ = lambda self, *args, **kwargs: as_array(
        self.detach(), *args, **kwargs
    )


if keras.backend.backend() == "torch":
    _let_numpy_read_outputs()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """Skips what Keras itself refuses on a backend."""
    try:
        return (yield)
    except (ValueError, AssertionError) as error:
        if "`steps_per_execution` must be 1 with the PyTorch" in str(error):
            pytest.skip("Keras runs one step per call on PyTorch")
        raise


@pytest.fixture(autouse=True)
def fresh_keras():
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(1337)
    keras.config.set_dtype_policy("float32")
    keras.config.disable_traceback_filtering()
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="module", autouse=True)
def freed_programs():
    """Frees what JAX compiled: 5 GB after a sixth of the tests."""
    yield
    if keras.backend.backend() == "jax":
        import jax

        jax.clear_caches()


@pytest.fixture
def rng():
    return np.random.default_rng(7)
