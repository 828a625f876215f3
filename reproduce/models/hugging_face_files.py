"""Weights and tokenizers from files in Hugging Face's format."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras_hub
import ml_dtypes  # noqa: F401 - gives NumPy the type bfloat16
import numpy as np
import safetensors

from reproduce.common.errors import InputError
from reproduce.models.keras_hub_tasks import first_line

SAFETENSORS = "model.safetensors"
PYTORCH = "pytorch_model.bin"
FLOATS = ("F16", "BF16", "F32", "F64")
# Integer tensors, such as position ids, are not weights.
INTEGERS = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")


def load_tokenizer(
    directory: Path, kind: str, size: int
) -> keras_hub.tokenizers.Tokenizer:
    """Returns the tokenizer of a `bert` or `roberta` with `size` embeddings."""
    try:
        if kind == "bert":
            return _bert_tokenizer(directory, size)
        path = directory / "vocab.json"
        pieces = json.loads(_read(path))
        _check_ids(path, pieces, size)
        merges = _read(directory / "merges.txt").split("\n")
        return keras_hub.models.RobertaTokenizer(
            pieces, [x for x in merges if x and not x.startswith("#version")]
        )
    except InputError:
        raise
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(
            f"{directory}: expected the vocabulary of a {kind}, got one that "
            f"KerasHub refuses: {first_line(error)}"
        ) from error


def _bert_tokenizer(
    directory: Path, size: int
) -> keras_hub.models.BertTokenizer:
    path = directory / "vocab.txt"
    pieces: dict[str, int] = {}
    for piece in _read(path).removesuffix("\n").split("\n"):
        if piece in pieces:
            raise InputError(
                f"{path}:{len(pieces) + 1}: expected a new piece, got "
                f"{piece!r} again. Fetch the file again."
            )
        pieces[piece] = len(pieces)
    _check_ids(path, pieces, size)
    config, lowercase = directory / "tokenizer_config.json", None
    if config.exists():
        lowercase = json.loads(_read(config)).get("do_lower_case")
    if lowercase is None:
        # An uncased vocabulary has capitals only in special tokens.
        lowercase = all(x == x.lower() for x in pieces if x[:1] != "[")
    return keras_hub.models.BertTokenizer(
        list(pieces),
        lowercase=bool(lowercase),
        # Hugging Face strips accents when it lowercases.
        strip_accents=bool(lowercase),
    )


def _check_ids(path: Path, pieces: dict[str, Any], size: int) -> None:
    ids = pieces.values()
    if not all(type(x) is int and 0 <= x < size for x in ids):
        raise InputError(
            f"{path}: expected ids from 0 to {size - 1}, as the embeddings "
            "have, got others. Fetch the file of this model."
        )
    if len(set(ids)) < len(pieces):
        raise InputError(
            f"{path}: expected an id of its own for each piece, got "
            f"{len(set(ids))} ids for {len(pieces)}. Fetch it again."
        )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}. Expected a file of the tokenizer."
        ) from error


def read_weights(directory: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Returns the path of a file, and its floating point tensors in float32.

    The file is `model.safetensors` or, for older checkpoints,
    `pytorch_model.bin`, which requires PyTorch.
    """
    for name, read in ((SAFETENSORS, _safetensors), (PYTORCH, _pytorch)):
        path = directory / name
        if path.exists():
            try:
                return path, dict(read(path))
            except InputError:
                raise
            except (
                safetensors.SafetensorError,
                pickle.UnpicklingError,
                RuntimeError,
                EOFError,
                OSError,
                AttributeError,
            ) as error:
                raise InputError(
                    f"{path}: expected a whole file of weights, got "
                    f"{path.stat().st_size} bytes that cannot be read "
                    f"({first_line(error)}). Fetch it again."
                ) from error
    raise InputError(
        f"{directory}: expected {SAFETENSORS} or {PYTORCH}, got neither. "
        "Fetch the weights, in one file."
    )


def _safetensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    with safetensors.safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            dtype = file.get_slice(name).get_dtype()
            if dtype in FLOATS:
                yield name, file.get_tensor(name).astype("float32")
            elif dtype not in INTEGERS:
                raise _wrong_type(path, name, dtype)


def _pytorch(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: expected PyTorch, which reads such files, got none. "
            f"Install torch, or fetch {SAFETENSORS} in its place."
        ) from error
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    # Without `weights_only`, the pickle could execute code.
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    for name, tensor in tensors.items():
        if tensor.dtype in floats:
            yield name, tensor.float().numpy()
        elif tensor.is_floating_point():
            raise _wrong_type(path, name, tensor.dtype)


def _wrong_type(path: Path, name: str, dtype: Any) -> InputError:
    return InputError(
        f"{path}: expected {', '.join(FLOATS)}, got {dtype} in {name}. Fetch "
        "weights that are not quantized."
    )
