"""Benchmarks of speed and memory, one command each."""

import contextlib
import importlib.util
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Import PyTorch before TensorFlow: the other order can crash on exit, as
# Keras's own conftest.py notes.
if importlib.util.find_spec("tensorflow") is not None:
    with contextlib.suppress(ImportError):
        import torch  # noqa: F401
