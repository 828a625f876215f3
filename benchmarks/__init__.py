"""Speed and memory, one command each."""

import contextlib
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Else PyTorch's threads wait for each other by spinning. On a machine with
# other work that makes its steps several times as long, which is no fault of
# what is measured; on a quiet one it makes no difference to speak of.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# PyTorch before TensorFlow: the other order can crash on exit, as Keras's own
# conftest.py notes.
with contextlib.suppress(ImportError):
    import torch  # noqa: F401
