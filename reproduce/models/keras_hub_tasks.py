"""Helpers for KerasHub's tasks and presets."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import keras

from reproduce.common.errors import InputError


class TakesBatches:
    """Mixin with which a KerasHub task accepts a `PyDataset` of tokens.

    KerasHub's `fit`, `evaluate` and `predict` map a preprocessor over their
    data and do not accept a `PyDataset`. This class must precede the task among
    the base classes.
    """

    def fit(self, x=None, **kwargs):
        return self._method("fit", x)(x=x, **kwargs)

    def evaluate(self, x=None, **kwargs):
        return self._method("evaluate", x)(x=x, **kwargs)

    def predict(self, x, **kwargs):
        return self._method("predict", x)(x=x, **kwargs)

    def _method(self, name, x):
        if isinstance(x, keras.utils.PyDataset):
            return functools.partial(getattr(keras.Model, name), self)
        return getattr(super(), name)


def scale_kernels(model: keras.Model, factor: float) -> None:
    """Multiplies all initial kernels except embeddings.

    The standard deviation of BERT's and BART's initializers, 0.02, suits their
    full width. In a narrow model, the outputs of attention and feed-forward
    would be negligible next to the residual, and training would stay at chance
    for thousands of updates.
    """
    for weight in model.trainable_variables:
        if "embedding" not in weight.path and len(weight.shape) > 1:
            weight.assign(weight * factor)


def read_config(preset: Path) -> dict[str, Any]:
    """Returns the content of a preset's `config.json`."""
    try:
        config = json.loads((preset / "config.json").read_text("utf-8"))
    except OSError as error:
        raise InputError(
            f"--preset {preset}: {error.strerror}: config.json. Expected a "
            "directory written by KerasHub's `save_to_preset`, or for texts "
            "one of Hugging Face."
        ) from error
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise InputError(
            f"--preset {preset}: config.json is not a KerasHub config, nor "
            "one of Hugging Face."
        )
    return config


def first_line(error: Exception) -> str:
    """Returns the reason of an error, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
