"""BERT and RoBERTa from a directory as Hugging Face publishes them.

KerasHub has converters of its own. They leave out what changes numbers without
a word: which GELU and which epsilon a checkpoint has, and whether its tokenizer
drops capitals and accents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from reproduce.common.errors import InputError
from reproduce.text_classification.model import ExactBertBackbone
from reproduce.text_classification.weight_files import read_weights

# By model type and activation: the backbone's class.
BACKBONES = {
    ("bert", "gelu"): ExactBertBackbone,
    ("bert", "gelu_new"): keras_hub.models.BertBackbone,
    ("bert", "gelu_pytorch_tanh"): keras_hub.models.BertBackbone,
    ("roberta", "gelu"): keras_hub.models.RobertaBackbone,
}
# What KerasHub has fixed.
EPSILONS = {"bert": 1e-12, "roberta": 1e-5}
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


# By model type: the layers of the classifier that are not the encoder's.
HEADS = {
    "bert": {"logits": "classifier"},
    "roberta": {
        "pooled_dense": "classifier.dense",
        "logits": "classifier.out_proj",
    },
}


@dataclass(frozen=True)
class Checkpoint:
    """What a directory holds, but for the tokenizer.

    Attributes:
        kind: The model type, `bert` or `roberta`.
        directory: Where it is.
        config: What `config.json` holds.
        path: The file of the weights.
        tensors: The weights, by names without the encoder's prefix and in
            their newer form.
    """

    kind: str
    directory: Path
    config: Mapping[str, Any]
    path: Path
    tensors: dict[str, np.ndarray]

    @property
    def has_pooler(self) -> bool:
        """Whether it has all that comes before the head."""
        # KerasHub counts RoBERTa's among its head, as Hugging Face does.
        return self.kind == "roberta" or "pooler.dense.weight" in self.tensors

    def tensor(self, name: str) -> np.ndarray:
        """Returns a tensor by its name.

        Raises:
            InputError: If it is not there.
        """
        if name not in self.tensors:
            raise InputError(
                f"{self.path}: expected a tensor {name}, got none. Fetch the "
                "weights of the encoder with all its layers."
            )
        return self.tensors[name]


def read_checkpoint(directory: Path, config: Mapping[str, Any]) -> Checkpoint:
    """Reads the weights that go with a config.

    Raises:
        InputError: If they are missing, cut short or damaged.
    """
    kind = config["model_type"]
    path, found = read_weights(directory)
    tensors = {}
    for name, tensor in found.items():
        name = name.removeprefix(f"{kind}.")
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        tensors[name.replace("LayerNorm.beta", "LayerNorm.bias")] = tensor
    checkpoint = Checkpoint(kind, directory, config, path, tensors)
    if kind == "roberta":
        _fold_positions(checkpoint)
    return checkpoint


def backbone_of(
    checkpoint: Checkpoint, dropout: float
) -> keras_hub.models.Backbone:
    """Returns the encoder with its weights.

    A pooler that the checkpoint lacks, as one trained on masked words alone
    does, keeps its random weights.

    Args:
        checkpoint: What to take it from.
        dropout: The rate of all dropout layers, over the config's own.

    Raises:
        InputError: If the config or the weights are not those of an encoder
            that KerasHub has.
    """
    kind = checkpoint.kind
    activation = checkpoint.config.get("hidden_act", "gelu")
    epsilon = checkpoint.config.get("layer_norm_eps", EPSILONS[kind])
    for name, value, known in (
        ("hidden_act", activation, [a for k, a in BACKBONES if k == kind]),
        ("layer_norm_eps", epsilon, [EPSILONS[kind]]),
    ):
        if value not in known:
            raise InputError(
                f"{checkpoint.directory / 'config.json'}: expected {name} "
                f"{' or '.join(map(str, known))}, got {value}. KerasHub has "
                f"no such {kind}."
            )
    positions = _number(checkpoint, "max_position_embeddings")
    sizes = {
        "vocabulary_size": "vocab_size",
        "num_layers": "num_hidden_layers",
        "num_heads": "num_attention_heads",
        "hidden_dim": "hidden_size",
        "intermediate_dim": "intermediate_size",
    }
    backbone = BACKBONES[kind, activation](
        **{ours: _number(checkpoint, x) for ours, x in sizes.items()},
        dropout=dropout,
        max_sequence_length=positions
        - (ROBERTA_POSITIONS if kind == "roberta" else 0),
    )
    for variable in backbone.weights:
        *layers, _ = variable.path.split("/")
        if layers[-1] == "pooled_dense" and not checkpoint.has_pooler:
            continue
        name = NAMES[layers[-1]]
        if layers[0].startswith("transformer_layer_"):
            name = f"encoder.layer.{layers[0].rsplit('_', 1)[1]}.{name}"
        _assign(checkpoint, variable, name)
    return backbone


def assign_head(
    checkpoint: Checkpoint, classifier: keras_hub.models.TextClassifier
) -> bool:
    """Gives a classifier the head of a checkpoint, if that has one.

    Args:
        checkpoint: What to take it from.
        classifier: The model, with the encoder of the checkpoint.

    Returns:
        Whether there was one, with as many outputs as the classifier. If not,
        the classifier is left as it was.
    """
    heads = HEADS[checkpoint.kind]
    last = checkpoint.tensors.get(f"{heads['logits']}.weight")
    if last is None or len(last) != classifier.output_dense.units:
        return False
    for layer, name in heads.items():
        for variable in classifier.get_layer(layer).weights:
            _assign(checkpoint, variable, name)
    return True


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


def _number(checkpoint: Checkpoint, name: str) -> int:
    value = checkpoint.config.get(name)
    if not isinstance(value, int) or value < 1:
        raise InputError(
            f"{checkpoint.directory / 'config.json'}: expected a whole number "
            f"for {name}, got {value}. Fetch the file again."
        )
    return value


def _fold_positions(checkpoint: Checkpoint) -> None:
    """Leaves the positions that occur, with the one segment added to them."""
    name = "embeddings.position_embeddings.weight"
    positions = checkpoint.tensor(name)[ROBERTA_POSITIONS:]
    segment = checkpoint.tensors.get("embeddings.token_type_embeddings.weight")
    if segment is not None:
        positions = positions + segment[:1]
    checkpoint.tensors[name] = positions


def _assign(
    checkpoint: Checkpoint, variable: keras.Variable, layer: str
) -> None:
    kind = variable.path.rsplit("/", 1)[1]
    name = f"{layer}.{'bias' if kind in ('bias', 'beta') else 'weight'}"
    tensor = checkpoint.tensor(name)
    if kind == "kernel":
        # PyTorch has outputs first.
        tensor = tensor.T
    # Keras keeps attention heads apart.
    expected = int(np.prod(variable.shape))
    whole = kind != "embeddings" or tensor.shape == tuple(variable.shape)
    if tensor.size != expected or not whole:
        raise InputError(
            f"{checkpoint.path}: expected {expected} numbers in {name}, got "
            f"shape {tensor.shape}. Check that config.json is that of the "
            "weights."
        )
    variable.assign(tensor.reshape(variable.shape))
