"""BERT and RoBERTa from a local directory in Hugging Face's format.

KerasHub's own converters silently give different outputs. They use the tanh
approximation of GELU for BERT, omit RoBERTa's token type embedding, keep
accents that uncased tokenizers drop, ignore the head, and reshape tensors of
the wrong shape. They also require a pooler, `do_lower_case` and a safetensors
file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from reproduce.common.errors import InputError
from reproduce.models.hugging_face_files import read_weights


@keras.saving.register_keras_serializable("rdrop_keras_examples")
class ExactBertBackbone(keras_hub.models.BertBackbone):
    """`BertBackbone` with the exact GELU of Hugging Face's checkpoints.

    KerasHub's backbone has the tanh approximation of the original BERT, whose
    logits differ by a few thousandths.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for layer in self.transformer_layers:
            # No public attribute works: the layer reads `activation` only
            # once.
            layer._feedforward_intermediate_dense.activation = (
                keras.activations.gelu
            )


# The class of the backbone for each model type and activation.
BACKBONES = {
    ("bert", "gelu"): ExactBertBackbone,
    ("bert", "gelu_new"): keras_hub.models.BertBackbone,
    ("bert", "gelu_pytorch_tanh"): keras_hub.models.BertBackbone,
    ("roberta", "gelu"): keras_hub.models.RobertaBackbone,
}
# KerasHub's epsilons of layer normalization, which are not configurable.
EPSILONS = {"bert": 1e-12, "roberta": 1e-5}
# RoBERTa's positions begin after the padding position, which is 1.
FIRST_POSITION = {"bert": 0, "roberta": 2}
SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
}
# Hugging Face's name and the sizes of the weight, outputs first, for the last
# part of each layer's name in KerasHub. These names are part of KerasHub's file
# format and do not change. The letters are the first ones of the sizes in a
# config; `t` is the number of token types.
LAYERS = {
    "token_embedding": ("embeddings.word_embeddings", "vh"),
    "position_embedding": ("embeddings.position_embeddings", "mh"),
    "segment_embedding": ("embeddings.token_type_embeddings", "th"),
    "embeddings_layer_norm": ("embeddings.LayerNorm", "h"),
    "query": ("attention.self.query", "hh"),
    "key": ("attention.self.key", "hh"),
    "value": ("attention.self.value", "hh"),
    "attention_output": ("attention.output.dense", "hh"),
    "self_attention_layer_norm": ("attention.output.LayerNorm", "h"),
    "feedforward_intermediate_dense": ("intermediate.dense", "ih"),
    "feedforward_output_dense": ("output.dense", "hi"),
    "feedforward_layer_norm": ("output.LayerNorm", "h"),
    "pooled_dense": ("pooler.dense", "hh"),
}
# The layers of the classification head for each model type.
HEADS = {
    "bert": {"logits": "classifier"},
    "roberta": {
        "pooled_dense": "classifier.dense",
        "logits": "classifier.out_proj",
    },
}


@dataclass(frozen=True)
class Checkpoint:
    """The config and the weights of a directory.

    Attributes:
        kind: The model type, `bert` or `roberta`.
        path: The file of the weights.
        tensors: The weights by name, without the prefix of the encoder.
    """

    kind: str
    config: Mapping[str, Any]
    path: Path
    tensors: dict[str, np.ndarray]

    @property
    def lacks_pooler(self) -> bool:
        """Whether BERT's pooler is missing; RoBERTa's belongs to the head."""
        return self.kind == "bert" and "pooler.dense.weight" not in self.tensors

    def size(self, name: str) -> int:
        """Returns a positive integer of the config."""
        value = self.config.get(name)
        if type(value) is not int or value < 1:
            raise self.refusal(f"a whole number for {name}", value)
        return value

    def refusal(self, expected: str, found: Any, why: str = "") -> InputError:
        """Returns the error for a value of the config."""
        return InputError(
            f"{self.path.parent / 'config.json'}: expected {expected}, got "
            f"{found}. {why or 'Fetch the file again.'}"
        )

    def check(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises `InputError` if a tensor does not have this shape."""
        if name not in self.tensors:
            raise InputError(
                f"{self.path}: expected a tensor {name}, got none. Fetch the "
                "weights of the encoder with all its layers."
            )
        found = self.tensors[name].shape
        if found != shape:
            raise InputError(
                f"{self.path}: expected shape {shape} of {name}, got shape "
                f"{found}. Check that config.json is that of the weights."
            )

    def tensor(self, variable: keras.Variable, layer: str) -> np.ndarray:
        """Returns the value of a layer's variable."""
        kind = variable.path.rsplit("/", 1)[1]
        suffix = "bias" if kind in ("bias", "beta") else "weight"
        tensor = self.tensors[f"{layer}.{suffix}"]
        # PyTorch stores kernels with outputs first.
        return tensor.T if kind == "kernel" else tensor


def read_checkpoint(directory: Path, config: Mapping[str, Any]) -> Checkpoint:
    """Reads the weights that belong to a config, and checks their shapes."""
    kind = config["model_type"]
    path, found = read_weights(directory)
    tensors = {
        name.removeprefix(f"{kind}.")
        .replace("LayerNorm.gamma", "LayerNorm.weight")
        .replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in found.items()
    }
    checkpoint = Checkpoint(kind, config, path, tensors)
    # Checked before a model of these sizes is allocated.
    sizes = {name: checkpoint.size(name) for name in SIZES.values()}
    width, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if width % heads:
        raise checkpoint.refusal(
            "a hidden_size that num_attention_heads divides",
            f"{width} and {heads}",
        )
    letters = {name[0]: size for name, size in sizes.items()} | {"t": 2}
    for layer, (name, axes) in LAYERS.items():
        if layer == "segment_embedding" and kind == "roberta":
            continue
        if layer == "pooled_dense" and (
            kind == "roberta" or checkpoint.lacks_pooler
        ):
            continue
        shape = tuple(letters[axis] for axis in axes)
        prefixes = [""]
        if not name.startswith(("embeddings", "pooler")):
            numbers = range(sizes["num_hidden_layers"])
            prefixes = (f"encoder.layer.{number}." for number in numbers)
        for prefix in prefixes:
            checkpoint.check(f"{prefix}{name}.weight", shape)
            if "_embedding" not in layer:
                checkpoint.check(f"{prefix}{name}.bias", shape[:1])
    return checkpoint


def backbone_of(
    checkpoint: Checkpoint, dropout: float
) -> keras_hub.models.Backbone:
    """Returns the encoder with its weights.

    A checkpoint of masked language modeling has no pooler, which then keeps its
    random weights.
    """
    kind, config = checkpoint.kind, checkpoint.config
    activation = config.get("hidden_act", "gelu")
    epsilon = config.get("layer_norm_eps", EPSILONS[kind])
    for name, value, known in (
        ("hidden_act", activation, [a for k, a in BACKBONES if k == kind]),
        ("layer_norm_eps", epsilon, [EPSILONS[kind]]),
    ):
        if value not in known:
            raise checkpoint.refusal(
                f"{name} {' or '.join(map(str, known))}",
                value,
                f"KerasHub has no such {kind}.",
            )
    sizes = {ours: checkpoint.size(theirs) for ours, theirs in SIZES.items()}
    first = FIRST_POSITION[kind]
    sizes["max_sequence_length"] -= first
    backbone = BACKBONES[kind, activation](**sizes, dropout=dropout)
    for variable in backbone.weights:
        *layers, _ = variable.path.split("/")
        if layers[-1] == "pooled_dense" and checkpoint.lacks_pooler:
            continue
        name, _ = LAYERS[layers[-1]]
        if layers[0].startswith("transformer_layer_"):
            name = f"encoder.layer.{layers[0].rsplit('_', 1)[1]}.{name}"
        tensor = checkpoint.tensor(variable, name)
        if layers[-1] == "position_embedding":
            tensor = tensor[first:]
            if kind == "roberta":
                # RoBERTa has a single token type, whose embedding can be
                # added to all positions.
                types = "embeddings.token_type_embeddings.weight"
                tensor = tensor + checkpoint.tensors.get(types, [[0.0]])[0]
        variable.assign(tensor.reshape(variable.shape))
    return backbone


def assign_head(
    checkpoint: Checkpoint, classifier: keras_hub.models.TextClassifier
) -> bool:
    """Assigns the head of a checkpoint, and returns whether it has one.

    A head with another number of outputs does not count.
    """
    heads = HEADS[checkpoint.kind]
    last = checkpoint.tensors.get(f"{heads['logits']}.weight")
    if last is None or len(last) != classifier.output_dense.units:
        return False
    for layer, name in heads.items():
        for variable in classifier.get_layer(layer).weights:
            shape = tuple(variable.shape[::-1])
            kind = "weight" if len(shape) == 2 else "bias"
            checkpoint.check(f"{name}.{kind}", shape)
            variable.assign(checkpoint.tensor(variable, name))
    return True
