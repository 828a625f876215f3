"""Which backends write SavedModels."""

from __future__ import annotations

import keras


def writes_saved_model() -> bool:
    """Returns whether the backend writes SavedModels, else prints a line."""
    if keras.backend.backend() == "tensorflow":
        return True
    print(
        "no saved_model: TensorFlow writes it. The files of this run can be "
        "read with KERAS_BACKEND=tensorflow as well."
    )
    return False
