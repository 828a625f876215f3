"""Encoders as Hugging Face publishes them, against NumPy in float64."""

import json
import math
import struct

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations

from examples.common import runs
from examples.common.errors import InputError
from examples.common.history import read_history
from examples.text_classification.__main__ import main
from examples.text_classification.model import RDropBertTextClassifier
from examples.text_classification.model import RDropRobertaTextClassifier
from examples.text_classification.presets import preset_classifier
from examples.text_classification.safetensors_file import read_safetensors

WIDTH, HEADS, INNER, LAYERS, POSITIONS = 8, 2, 12, 2, 14
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "big", "##ger"]
DTYPES = {"float32": "F32", "float16": "F16", "int64": "I64"}


def _write_safetensors(path, tensors):
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        start = len(content)
        content += tensor.tobytes()
        header[name] = {
            "dtype": DTYPES[tensor.dtype.name],
            "shape": tensor.shape,
            "data_offsets": [start, len(content)],
        }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def _weights(rng, vocabulary, segments):
    """The tensors of an encoder by Hugging Face's names."""
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (segments, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name, shape in {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "attention.output.LayerNorm": (WIDTH,),
            "intermediate.dense": (INNER, WIDTH),
            "output.dense": (WIDTH, INNER),
            "output.LayerNorm": (WIDTH,),
        }.items():
            shapes[f"{prefix}.{name}.weight"] = shape
            shapes[f"{prefix}.{name}.bias"] = shape[:1]
    return {
        name: rng.normal(
            0.5 if "Norm.weight" in name else 0, 0.4, shape
        ).astype("float32")
        for name, shape in shapes.items()
    }


def _config(kind, vocabulary):
    return {
        "model_type": kind,
        "architectures": ["SomethingForMaskedLM"],
        "vocab_size": vocabulary,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12 if kind == "bert" else 1e-5,
    }


@pytest.fixture
def bert(tmp_path, rng):
    weights = _weights(rng, len(WORDS), 2)
    # As in the oldest checkpoints, and a tensor that is no weight.
    renamed = {
        "bert."
        + name.replace("Norm.weight", "Norm.gamma").replace(
            "Norm.bias", "Norm.beta"
        ): tensor
        for name, tensor in weights.items()
    }
    renamed["bert.embeddings.position_ids"] = np.arange(POSITIONS)[None]
    _write_safetensors(tmp_path / "model.safetensors", renamed)
    config = _config("bert", len(WORDS))
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return tmp_path, weights


def _bytes_as_letters():
    # What byte-level BPE writes for each byte, after GPT-2's encoder.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    return letters | {byte: chr(256 + n) for n, byte in enumerate(others)}


@pytest.fixture
def roberta(tmp_path, rng):
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *_bytes_as_letters().values()]
    tokens += ["he", "\u0120he", "<mask>"]
    weights = _weights(rng, len(tokens), 1)
    _write_safetensors(
        tmp_path / "model.safetensors",
        {f"roberta.{name}": tensor for name, tensor in weights.items()},
    )
    config = _config("roberta", len(tokens))
    (tmp_path / "config.json").write_text(json.dumps(config))
    vocabulary = {token: index for index, token in enumerate(tokens)}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    merges = "#version: 0.2\nh e\n\u0120 he\n"
    (tmp_path / "merges.txt").write_text(merges, encoding="utf-8")
    return tmp_path, weights


def _tanh_gelu(x):
    return x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


def _erf_gelu(x):
    return x / 2 * (1 + np.vectorize(math.erf)(x / 2**0.5))


def _forward(weights, tokens, segments, mask, offset, epsilon, gelu):
    """The last hidden states and the pooled output, in float64."""
    weights = {name: np.float64(w) for name, w in weights.items()}

    def dense(name, x):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normalized(name, x):
        mean = x.mean(-1, keepdims=True)
        scaled = (x - mean) / np.sqrt(x.var(-1, keepdims=True) + epsilon)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x):
        rows, length, _ = x.shape
        return x.reshape(rows, length, HEADS, -1).transpose(0, 2, 1, 3)

    positions = np.arange(tokens.shape[1]) + offset
    x = weights["embeddings.word_embeddings.weight"][tokens]
    x = x + weights["embeddings.position_embeddings.weight"][positions]
    x = x + weights["embeddings.token_type_embeddings.weight"][segments]
    x = normalized("embeddings.LayerNorm", x)
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            heads(dense(f"{prefix}.attention.self.{name}", x))
            for name in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / (WIDTH / HEADS) ** 0.5
        scores = np.where(mask[:, None, None], scores, -np.inf)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = scores / scores.sum(-1, keepdims=True) @ value
        mixed = mixed.transpose(0, 2, 1, 3).reshape(x.shape)
        mixed = dense(f"{prefix}.attention.output.dense", mixed)
        x = normalized(f"{prefix}.attention.output.LayerNorm", x + mixed)
        inner = gelu(dense(f"{prefix}.intermediate.dense", x))
        inner = dense(f"{prefix}.output.dense", inner)
        x = normalized(f"{prefix}.output.LayerNorm", x + inner)
    return x, np.tanh(dense("pooler.dense", x[:, 0]))


def test_bert_computes_what_its_weights_say(bert):
    directory, weights = bert
    classifier = preset_classifier(directory, 3, 0.1, sequence_length=10)
    assert isinstance(classifier, RDropBertTextClassifier)
    assert classifier.backbone.dropout == classifier.dropout == 0.1
    # Uncased by its vocabulary, so that accents go too, as a pair.
    inputs = classifier.preprocessor(x=(["Café bigger", "big"], ["CAFE", "x"]))
    tokens = np.array(
        [[2, 5, 6, 7, 3, 5, 3, 0, 0, 0], [2, 6, 3, 1, 3, 0, 0, 0, 0, 0]]
    )
    segments = np.zeros((2, 10), int)
    segments[0, 5:7] = segments[1, 3:5] = 1
    np.testing.assert_array_equal(inputs["token_ids"], tokens)
    np.testing.assert_array_equal(inputs["segment_ids"], segments)
    outputs = classifier.backbone(inputs, training=False)
    mask = tokens != 0
    expected, pooled = _forward(
        weights, tokens, segments, mask, 0, 1e-12, _tanh_gelu
    )
    np.testing.assert_allclose(
        np.array(outputs["sequence_output"])[mask], expected[mask], atol=1e-5
    )
    np.testing.assert_allclose(outputs["pooled_output"], pooled, atol=1e-5)
    logits = classifier(inputs, training=False)
    kernel, bias = (np.array(w) for w in classifier.output_dense.weights)
    np.testing.assert_allclose(logits, pooled @ kernel + bias, atol=1e-5)
    # Hugging Face has GELU without the approximation.
    exact, _ = _forward(weights, tokens, segments, mask, 0, 1e-12, _erf_gelu)
    assert np.abs(exact - expected)[mask].max() < 5e-3


def test_roberta_computes_what_its_weights_say(roberta):
    directory, weights = roberta
    classifier = preset_classifier(directory, 2, 0.1)
    assert isinstance(classifier, RDropRobertaTextClassifier)
    # Two positions are those of padding, and no text has them.
    assert classifier.backbone.max_sequence_length == POSITIONS - 2
    assert classifier.preprocessor.sequence_length == POSITIONS - 2
    inputs = classifier.preprocessor(x=(["he he", "a"], ["he", "b"]))
    a = 4 + list(_bytes_as_letters()).index(ord("a"))
    tokens = np.ones((2, POSITIONS - 2), int)
    tokens[0, :7] = [0, 260, 261, 2, 2, 260, 2]
    tokens[1, :6] = [0, a, 2, 2, a + 1, 2]
    np.testing.assert_array_equal(inputs["token_ids"], tokens)
    outputs = classifier.backbone(inputs, training=False)
    mask = tokens != 1
    expected, _ = _forward(
        weights, tokens, np.zeros_like(tokens), mask, 2, 1e-5, _erf_gelu
    )
    np.testing.assert_allclose(
        np.array(outputs)[mask], expected[mask], atol=1e-5
    )


def test_vocabulary_or_tokenizer_config_says_what_is_cased(bert):
    directory, _ = bert

    def tokens(text):
        classifier = preset_classifier(directory, 2, 0.1)
        return list(np.array(classifier.preprocessor([text])["token_ids"])[0])

    assert tokens("BIG")[:3] == [2, 6, 3]
    (directory / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert tokens("BIG")[:3] == [2, 1, 3]
    (directory / "tokenizer_config.json").write_text("{}")
    (directory / "vocab.txt").write_text("\n".join([*WORDS[:-1], "Big"]))
    assert tokens("Big")[:3] == [2, 7, 3]


def test_safetensors_are_read_in_every_precision(tmp_path):
    path = tmp_path / "x.safetensors"
    half = np.array([[1.5, -2.0], [0.25, 3.0]], "float16")
    _write_safetensors(path, {"half": half, "ids": np.arange(3)})
    found = read_safetensors(path)
    assert list(found) == ["half"] and found["half"].dtype == np.float32
    np.testing.assert_array_equal(found["half"], half)
    # 1.0 and -2.5 in bfloat16: the upper halves of their float32.
    bits = struct.pack("<HH", 0x3F80, 0xC020)
    header = b'{"b": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    path.write_bytes(struct.pack("<Q", len(header)) + header + bits)
    np.testing.assert_array_equal(read_safetensors(path)["b"], [1.0, -2.5])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: _truncate(d / "model.safetensors"), "expected a whole"),
        (lambda d: (d / "model.safetensors").write_bytes(b""), "0 bytes"),
        (lambda d: (d / "model.safetensors").unlink(), "No such file"),
        (lambda d: (d / "vocab.txt").unlink(), "vocab.txt: No such file"),
        (lambda d: (d / "vocab.txt").write_text("a\nb"), "KerasHub refuses"),
        (lambda d: _change(d, hidden_act="relu"), "expected hidden_act gelu"),
        (lambda d: _change(d, num_hidden_layers=3), "encoder.layer.2.att"),
        (lambda d: _change(d, vocab_size=7), r"got shape \(8, 8\)"),
        (lambda d: _change(d, hidden_size=None), "number for hidden_size"),
        (lambda d: _change(d, model_type="gpt2"), "got gpt2"),
    ],
)
def test_broken_checkpoints_are_refused(bert, spoil, message):
    directory, _ = bert
    spoil(directory)
    with pytest.raises(InputError, match=message) as caught:
        preset_classifier(directory, 2, 0.1)
    assert str(directory) in str(caught.value)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def _change(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_pairs_are_learned_by_a_pretrained_roberta(
    roberta, tmp_path_factory, capsys
):
    directory, _ = roberta
    rows = [
        f"{number}\the {letter}\t{letter} he\t{label}"
        for number, (letter, label) in enumerate(
            zip("abcdef", ["entailment", "not_entailment"] * 3)
        )
    ]
    text = "\n".join(["index\tsentence1\tsentence2\tlabel", *rows])
    data, output = tmp_path_factory.mktemp("rte"), tmp_path_factory.mktemp("o")
    for file in ("train.tsv", "dev.tsv"):
        (data / file).write_text(text)
    arguments = ["--recipe=glue_rte_roberta_large", f"--data={data}"]
    arguments += [f"--preset={directory}", f"--output={output}", "--updates=3"]
    assert main([*arguments, "--warm-up=1", "--batch-size=4"]) == 0
    assert "dev: accuracy " in capsys.readouterr().out
    # Three updates, of which two make an epoch.
    assert runs.read_json(output / runs.METRICS)["updates"] == 3
    history = read_history(output / runs.HISTORY)
    assert [epoch for epoch, _ in history["val_accuracy"]] == [1, 2]
    model = keras.models.load_model(output / runs.MODEL)
    assert isinstance(model, RDropRobertaTextClassifier)
    pairs = ["he a", "he b"], ["a he", "he"]
    inputs = model.preprocessor(x=pairs)
    expected = keras.ops.softmax(model(inputs, training=False))
    served = tf.saved_model.load(str(output / runs.SAVED_MODEL))
    result = served.serve(*map(tf.constant, pairs))
    np.testing.assert_allclose(result["probabilities"], expected, atol=1e-6)
    # The encoder went on from its weights, in steps of at most the rate.
    start = preset_classifier(directory, 2, 0.1).backbone
    moved = [
        np.abs(before - after).max()
        for before, after in zip(
            start.get_weights(), model.backbone.get_weights()
        )
    ]
    assert 0 < max(moved) < 1e-4
