"""Tensors of a checkpoint by name, from the files that Hugging Face has."""

from __future__ import annotations

import pickle
from pathlib import Path

import ml_dtypes  # noqa: F401 - gives NumPy the type bfloat16
import numpy as np
import safetensors
import safetensors.numpy

from reproduce.common.errors import InputError

SAFETENSORS = "model.safetensors"
PYTORCH = "pytorch_model.bin"


def read_weights(directory: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Reads all tensors of floating point numbers, as float32.

    Args:
        directory: Where `model.safetensors` is or, for older checkpoints,
            `pytorch_model.bin`, for which PyTorch has to be installed.

    Returns:
        The file that was read, and its tensors by name.

    Raises:
        InputError: If there is neither, or it is cut short or damaged.
    """
    path = directory / SAFETENSORS
    if path.exists():
        return path, _read_safetensors(path)
    path = directory / PYTORCH
    if path.exists():
        return path, _read_pytorch(path)
    raise InputError(
        f"{directory}: expected {SAFETENSORS} or {PYTORCH}, got neither. "
        "Fetch the weights, in one file."
    )


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        tensors = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise _not_whole(path, error) from error
    return {
        name: tensor.astype("float32")
        for name, tensor in tensors.items()
        # Counts, such as those of positions, are no weights.
        if tensor.dtype.kind not in "iub"
    }


def _read_pytorch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: expected PyTorch, which reads such files, got none. "
            f"Install torch, or fetch {SAFETENSORS} in its place."
        ) from error
    try:
        # A pickle is a program: without `weights_only` it would be run.
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name: tensor.float().numpy()
            for name, tensor in tensors.items()
            if tensor.is_floating_point()
        }
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        OSError,
        AttributeError,
    ) as error:
        raise _not_whole(path, error) from error


def _not_whole(path: Path, error: Exception) -> InputError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return InputError(
        f"{path}: expected a whole file of weights, got "
        f"{path.stat().st_size} bytes that are none ({reason}). Fetch it "
        "again."
    )
