"""BERT and RoBERTa from a directory as Hugging Face publishes them.

KerasHub reads such directories too, with the package safetensors, which is
not required here. Its layers are the same but in one: KerasHub's BERT computes
GELU by the usual approximation with tanh, from which its outputs differ a
little.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from examples.common.errors import InputError
from examples.text_classification.safetensors_file import read_safetensors

WEIGHTS = "model.safetensors"
# By model type: the backbone's class, and what KerasHub has fixed of it.
BACKBONES = {
    "bert": keras_hub.models.BertBackbone,
    "roberta": keras_hub.models.RobertaBackbone,
}
FIXED = {
    "bert": {"hidden_act": "gelu", "layer_norm_eps": 1e-12},
    "roberta": {"hidden_act": "gelu", "layer_norm_eps": 1e-5},
}
# RoBERTa's positions begin after that of padding, whose number is 1.
ROBERTA_POSITIONS = 2

# By what the name of a layer ends in, what Hugging Face calls it. The names of
# KerasHub's layers are part of its files, and so do not change.
NAMES = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "self_attention_layer_norm": "attention.output.LayerNorm",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "feedforward_layer_norm": "output.LayerNorm",
    "pooled_dense": "pooler.dense",
}


def load_backbone(
    directory: Path, config: dict[str, Any], dropout: float
) -> keras_hub.models.Backbone:
    """Returns the encoder with its weights.

    Args:
        directory: Where `model.safetensors` is.
        config: What `config.json` holds.
        dropout: The rate of all dropout layers, over the config's own.

    Raises:
        InputError: If the config or the weights are not those of an encoder
            that KerasHub has.
    """
    kind = config["model_type"]
    for name, value in FIXED[kind].items():
        if config.get(name, value) != value:
            raise InputError(
                f"{directory / 'config.json'}: expected {name} {value}, got "
                f"{config[name]}. KerasHub has no such {kind}."
            )
    positions = _number(directory, config, "max_position_embeddings")
    sizes = {
        "vocabulary_size": "vocab_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "hidden_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
    }
    backbone = BACKBONES[kind](
        **{ours: _number(directory, config, x) for ours, x in sizes.items()},
        dropout=dropout,
        max_sequence_length=positions
        - (ROBERTA_POSITIONS if kind == "roberta" else 0),
    )
    path = directory / WEIGHTS
    tensors = _encoder_tensors(kind, path)
    if kind == "roberta":
        _fold_positions(path, tensors)
    for variable in backbone.weights:
        _assign(path, variable, tensors)
    return backbone


def load_tokenizer(
    directory: Path, config: dict[str, Any]
) -> keras_hub.tokenizers.Tokenizer:
    """Returns the tokenizer that goes with the encoder.

    Raises:
        InputError: If its files are missing or not what they should be.
    """
    try:
        if config["model_type"] == "bert":
            return _word_pieces(directory)
        merges = _read(directory / "merges.txt").split("\n")
        return keras_hub.models.RobertaTokenizer(
            json.loads(_read(directory / "vocab.json")),
            [x for x in merges if x and not x.startswith("#version")],
        )
    except InputError:
        raise
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"{directory}: expected the vocabulary of a "
            f"{config['model_type']}, got one that KerasHub refuses: {error}"
        ) from error


def _word_pieces(directory: Path) -> keras_hub.models.BertTokenizer:
    pieces = _read(directory / "vocab.txt").removesuffix("\n").split("\n")
    lowercase = None
    if (directory / "tokenizer_config.json").exists():
        tokenizer = json.loads(_read(directory / "tokenizer_config.json"))
        lowercase = tokenizer.get("do_lower_case")
    if lowercase is None:
        # An uncased vocabulary has capitals in its special pieces only.
        lowercase = all(x == x.lower() for x in pieces if x[:1] != "[")
    return keras_hub.models.BertTokenizer(
        pieces,
        lowercase=lowercase,
        # Hugging Face drops accents with capitals.
        strip_accents=lowercase,
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}. Expected a file of the tokenizer."
        ) from error


def _number(directory: Path, config: dict[str, Any], name: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or value < 1:
        raise InputError(
            f"{directory / 'config.json'}: expected a whole number for "
            f"{name}, got {value}. Fetch the file again."
        )
    return value


def _encoder_tensors(kind: str, path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors by names without prefix, in their newer form."""
    tensors = {}
    for name, tensor in read_safetensors(path).items():
        name = name.removeprefix(f"{kind}.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        tensors[name.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    return tensors


def _fold_positions(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Leaves the positions that occur, with the one segment added to them."""
    name = "embeddings.position_embeddings.weight"
    positions = _tensor(path, name, tensors)[ROBERTA_POSITIONS:]
    segment = tensors.get("embeddings.token_type_embeddings.weight")
    tensors[name] = positions if segment is None else positions + segment[:1]


def _assign(
    path: Path, variable: keras.Variable, tensors: dict[str, np.ndarray]
) -> None:
    *layers, kind = variable.path.split("/")
    name = NAMES[layers[-1]]
    if layers[0].startswith("transformer_layer_"):
        name = f"encoder.layer.{layers[0].rsplit('_', 1)[1]}.{name}"
    is_bias = kind in ("bias", "beta")
    name += ".bias" if is_bias else ".weight"
    tensor = _tensor(path, name, tensors)
    if kind == "kernel":
        # PyTorch has outputs first.
        tensor = tensor.T
    # Keras keeps attention heads apart.
    expected = int(np.prod(variable.shape))
    whole = kind != "embeddings" or tensor.shape == tuple(variable.shape)
    if tensor.size != expected or not whole:
        raise InputError(
            f"{path}: expected {expected} numbers in {name}, got shape "
            f"{tensor.shape}. Check that config.json is that of the weights."
        )
    variable.assign(tensor.reshape(variable.shape))


def _tensor(
    path: Path, name: str, tensors: dict[str, np.ndarray]
) -> np.ndarray:
    if name not in tensors:
        raise InputError(
            f"{path}: expected a tensor {name}, got none. Fetch the weights "
            "of the encoder with all its layers."
        )
    return tensors[name]
