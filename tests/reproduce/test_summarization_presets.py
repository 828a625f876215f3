"""A BART from a directory, as KerasHub and as Hugging Face write it."""

import json

import keras_hub
import numpy as np
import pytest
from bart import bart_tokenizer

from reproduce.common.errors import InputError
from reproduce.models.bart import bart_inputs
from reproduce.models.bart import preset_bart

safetensors = pytest.importorskip("safetensors.numpy")


def random_backbone(tokenizer):
    backbone = keras_hub.models.BartBackbone(
        vocabulary_size=tokenizer.vocabulary_size(),
        num_layers=2,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=12,
        dropout=0.3,
        max_sequence_length=20,
    )
    generator = np.random.default_rng(0)
    for weight in backbone.weights:
        if "float" in str(weight.dtype):
            weight.assign(generator.normal(size=weight.shape))
    return backbone


# By what Keras calls a layer, what Hugging Face calls it.
ATTENTION = {
    "query": "q_proj",
    "key": "k_proj",
    "value": "v_proj",
    "attention_output": "out_proj",
}


def hugging_face_weights(backbone):
    """The weights under Hugging Face's names, in PyTorch's layout."""
    found = {"shared.weight": backbone.token_embedding.embeddings}
    for side in ("encoder", "decoder"):
        positions = getattr(backbone, f"{side}_position_embedding")
        # Two rows before the first position are never used there.
        found[f"{side}.embed_positions.weight"] = np.concatenate(
            [np.full((2, 8), 99.0), positions.position_embeddings]
        )
        norm = getattr(backbone, f"{side}_embeddings_layer_norm")
        found[f"{side}.layernorm_embedding.weight"] = norm.gamma
        found[f"{side}.layernorm_embedding.bias"] = norm.beta
        layers = getattr(backbone, f"{side}_transformer_layers")
        for index, layer in enumerate(layers):
            for variable in layer.weights:
                if "float" in str(variable.dtype):
                    key = _key(variable.path)
                    found[f"{side}.layers.{index}.{key}"] = _torch(variable)
    return {
        name: np.ascontiguousarray(value, "float32")
        for name, value in found.items()
    }


def _key(path):
    *_, part, name = path.split("/")
    suffix = {"gamma": "weight", "kernel": "weight"}.get(name, "bias")
    where = "encoder_attn" if "cross_attention" in path else "self_attn"
    if "layer_norm" in part:
        feed_forward = "feedforward" in part
        place = "final_layer_norm" if feed_forward else f"{where}_layer_norm"
        return f"{place}.{suffix}"
    if "feedforward" in part:
        place = "fc1" if "intermediate" in part else "fc2"
        return f"{place}.{suffix}"
    return f"{where}.{ATTENTION[part]}.{suffix}"


def _torch(variable):
    value = np.asarray(variable)
    if variable.path.endswith("kernel"):
        inputs = 8 if value.shape[0] == 8 else np.prod(value.shape[:-1])
        return value.reshape(int(inputs), -1).T
    return value.reshape(-1)


def test_hugging_faces_layout_is_read_as_keras_hubs(tmp_path):
    tokenizer = bart_tokenizer()
    backbone = random_backbone(tokenizer)
    theirs, ours = tmp_path / "hugging_face", tmp_path / "keras_hub"
    backbone.save_to_preset(str(ours))
    tokenizer.save_to_preset(str(ours))
    theirs.mkdir()
    safetensors.save_file(
        hugging_face_weights(backbone),
        str(theirs / "model.safetensors"),
        metadata={"format": "pt"},
    )
    config = {
        "model_type": "bart",
        "vocab_size": tokenizer.vocabulary_size(),
        "num_hidden_layers": 2,
        "encoder_attention_heads": 2,
        "d_model": 8,
        "encoder_ffn_dim": 12,
        "dropout": 0.3,
        "max_position_embeddings": 20,
    }
    (theirs / "config.json").write_text(json.dumps(config))
    vocabulary = json.dumps(tokenizer.vocabulary)
    (theirs / "vocab.json").write_text(vocabulary)
    merges = "\n".join(["#version: 0.2", *tokenizer.merges])
    (theirs / "merges.txt").write_text(merges + "\n")

    found = []
    for directory, dropout in ((ours, None), (theirs, 0.2)):
        model, byte_pairs = preset_bart(str(directory), dropout)
        (row,) = byte_pairs.encode(["the cat sat"])
        ids = row[None]
        inputs = bart_inputs({"source_ids": ids, "target_ids": ids}, 1)
        found.append((ids, model(inputs).numpy()))
        assert model.backbone.dropout == (dropout or 0.3)
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)
    assert np.ptp(found[0][1]) > 1


def test_what_is_no_bart_is_refused(tmp_path):
    for config in (
        None,
        {"model_type": "gpt2"},
        {"class_name": "BertBackbone"},
    ):
        if config is not None:
            (tmp_path / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match=f"--preset {tmp_path}: expected"):
            preset_bart(str(tmp_path), None)
