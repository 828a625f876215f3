"""Encoders as Hugging Face publishes them, against NumPy in float64."""

import json
import math
import os
import pickle
import sys

import keras
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the tokenizer's operations

from reproduce.__main__ import main
from reproduce.common import runs
from reproduce.common.errors import InputError
from reproduce.common.history import read_history
from reproduce.models.bert import RDropBertTextClassifier
from reproduce.models.bert import RDropRobertaTextClassifier
from reproduce.models.bert import preset_classifier
from reproduce.models.hugging_face_files import read_weights

WIDTH, HEADS, INNER, LAYERS, POSITIONS = 8, 2, 12, 2, 14
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "big", "##ger"]
# Of the heads that the tests' checkpoints have.
OUTPUTS = 3


def _weights(rng, vocabulary, segments, head):
    """The tensors of an encoder and a head by Hugging Face's names."""
    shapes = {
        "embeddings.word_embeddings.weight": (vocabulary, WIDTH),
        "embeddings.position_embeddings.weight": (POSITIONS, WIDTH),
        "embeddings.token_type_embeddings.weight": (segments, WIDTH),
        "embeddings.LayerNorm.weight": (WIDTH,),
        "embeddings.LayerNorm.bias": (WIDTH,),
        "pooler.dense.weight": (WIDTH, WIDTH),
        "pooler.dense.bias": (WIDTH,),
    }
    for name, outputs in head.items():
        shapes[f"{name}.weight"] = (outputs, WIDTH)
        shapes[f"{name}.bias"] = (outputs,)
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
            0.5 if "Norm.weight" in name else 0, 0.8, shape
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


def _save(directory, weights, kind, **others):
    """Writes weights, those of the encoder under its prefix."""
    tensors = {
        name if name.startswith("classifier") else f"{kind}.{name}": tensor
        for name, tensor in weights.items()
    }
    path = directory / "model.safetensors"
    safetensors.numpy.save_file(tensors | others, path, {"format": "pt"})


@pytest.fixture
def bert(tmp_path, rng):
    weights = _weights(rng, len(WORDS), 2, {"classifier": OUTPUTS})
    # As in the oldest checkpoints, and a tensor that is no weight.
    renamed = {
        name.replace("Norm.weight", "Norm.gamma").replace(
            "Norm.bias", "Norm.beta"
        ): tensor
        for name, tensor in weights.items()
    }
    places = {"bert.embeddings.position_ids": np.arange(POSITIONS)[None]}
    _save(tmp_path, renamed, "bert", **places)
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
    head = {"classifier.dense": WIDTH, "classifier.out_proj": OUTPUTS}
    weights = _weights(rng, len(tokens), 1, head)
    _save(tmp_path, weights, "roberta")
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


def _dense(weights, name, x):
    weight, bias = (
        np.float64(weights[f"{name}.{kind}"]) for kind in ("weight", "bias")
    )
    return x @ weight.T + bias


def _forward(weights, tokens, segments, mask, offset, epsilon, gelu=_erf_gelu):
    """The last hidden states, in float64."""
    weights = {name: np.float64(w) for name, w in weights.items()}

    def dense(name, x):
        return _dense(weights, name, x)

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
    return x


def _bert_logits(weights, tokens, segments, gelu=_erf_gelu):
    hidden = _forward(weights, tokens, segments, tokens != 0, 0, 1e-12, gelu)
    pooled = np.tanh(_dense(weights, "pooler.dense", hidden[:, 0]))
    return _dense(weights, "classifier", pooled)


TEXTS = (["Café bigger", "big"], ["CAFE", "x"])
TOKENS = np.array(
    [[2, 5, 6, 7, 3, 5, 3, 0, 0, 0], [2, 6, 3, 1, 3, 0, 0, 0, 0, 0]]
)
SEGMENTS = np.zeros((2, 10), int)
SEGMENTS[0, 5:7] = SEGMENTS[1, 3:5] = 1


def _bert(directory, outputs=OUTPUTS):
    return preset_classifier(directory, outputs, 0.1, sequence_length=10)


def test_bert_computes_what_its_weights_say(bert, tmp_path, capsys):
    directory, weights = bert
    classifier = _bert(directory)
    assert "with the head of the checkpoint" in capsys.readouterr().out
    assert isinstance(classifier, RDropBertTextClassifier)
    assert classifier.backbone.dropout == classifier.dropout == 0.1
    # Uncased by its vocabulary, so that accents go too, as a pair.
    inputs = classifier.preprocessor(x=TEXTS)
    np.testing.assert_array_equal(inputs["token_ids"], TOKENS)
    np.testing.assert_array_equal(inputs["segment_ids"], SEGMENTS)
    hidden = classifier.backbone(inputs, training=False)["sequence_output"]
    mask = TOKENS != 0
    expected = _forward(weights, TOKENS, SEGMENTS, mask, 0, 1e-12)
    np.testing.assert_allclose(
        np.array(hidden)[mask], expected[mask], atol=1e-5
    )
    logits = classifier(inputs, training=False)
    expected = _bert_logits(weights, TOKENS, SEGMENTS)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    # A model that was written and read again has the same activation.
    classifier.backbone.save(tmp_path / "backbone.keras")
    again = keras.models.load_model(tmp_path / "backbone.keras")
    np.testing.assert_allclose(
        again(inputs, training=False)["sequence_output"], hidden, atol=1e-5
    )
    again.save_to_preset(str(tmp_path / "preset"))
    classifier.preprocessor.save_to_preset(str(tmp_path / "preset"))
    encoder = _bert(tmp_path / "preset").backbone
    np.testing.assert_allclose(
        encoder(inputs, training=False)["sequence_output"], hidden, atol=1e-5
    )


def test_config_says_which_gelu_a_bert_has(bert):
    directory, weights = bert
    _change(directory, hidden_act="gelu_new")
    classifier = _bert(directory)
    inputs = classifier.preprocessor(x=TEXTS)
    logits = classifier(inputs, training=False)
    expected = _bert_logits(weights, TOKENS, SEGMENTS, _tanh_gelu)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    exact = _bert_logits(weights, TOKENS, SEGMENTS)
    assert np.abs(exact - expected).max() > 1e-4


def test_bert_equals_pytorchs_own_encoder(bert):
    torch = pytest.importorskip("torch")
    directory, weights = bert
    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(
            WIDTH,
            HEADS,
            INNER,
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=1e-12,
            batch_first=True,
        ),
        LAYERS,
        enable_nested_tensor=False,
    )
    state = {}
    for layer in range(LAYERS):
        ours, theirs = f"encoder.layer.{layer}", f"layers.{layer}"
        for kind in ("weight", "bias"):
            state[f"{theirs}.self_attn.in_proj_{kind}"] = np.concatenate(
                [
                    weights[f"{ours}.attention.self.{name}.{kind}"]
                    for name in ("query", "key", "value")
                ]
            )
            for name, source in {
                "self_attn.out_proj": "attention.output.dense",
                "linear1": "intermediate.dense",
                "linear2": "output.dense",
                "norm1": "attention.output.LayerNorm",
                "norm2": "output.LayerNorm",
            }.items():
                state[f"{theirs}.{name}.{kind}"] = weights[
                    f"{ours}.{source}.{kind}"
                ]
    encoder.load_state_dict(
        {name: torch.tensor(value) for name, value in state.items()}
    )
    encoder.eval()

    def tensor(name):
        return torch.tensor(weights[name])

    embedded = (
        tensor("embeddings.word_embeddings.weight")[TOKENS]
        + tensor("embeddings.position_embeddings.weight")[:10]
        + tensor("embeddings.token_type_embeddings.weight")[SEGMENTS]
    )
    embedded = torch.nn.functional.layer_norm(
        embedded,
        [WIDTH],
        tensor("embeddings.LayerNorm.weight"),
        tensor("embeddings.LayerNorm.bias"),
        1e-12,
    )
    with torch.no_grad():
        hidden = encoder(
            embedded, src_key_padding_mask=torch.tensor(TOKENS == 0)
        )
    pooled = np.tanh(_dense(weights, "pooler.dense", hidden[:, 0].numpy()))
    classifier = _bert(directory)
    logits = classifier(classifier.preprocessor(x=TEXTS), training=False)
    np.testing.assert_allclose(
        logits, _dense(weights, "classifier", pooled), atol=1e-5
    )


def test_head_of_other_outputs_and_missing_pooler_are_new(bert, capsys):
    directory, weights = bert
    keras.utils.set_random_seed(1)
    classifier = _bert(directory, outputs=2)
    assert "with a new head of 2 output(s)" in capsys.readouterr().out
    kernel, bias = (np.array(w) for w in classifier.output_dense.weights)
    assert kernel.shape == (WIDTH, 2) and not bias.any()
    # As one that was trained on masked words alone.
    without = {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(("pooler", "classifier"))
    }
    _save(directory, without, "bert")
    classifier = _bert(directory)
    assert "a new pooler and a new head of 3" in capsys.readouterr().out
    inputs = classifier.preprocessor(x=TEXTS)
    outputs = classifier.backbone(inputs, training=False)
    mask = TOKENS != 0
    expected = _forward(weights, TOKENS, SEGMENTS, mask, 0, 1e-12)
    np.testing.assert_allclose(
        np.array(outputs["sequence_output"])[mask], expected[mask], atol=1e-5
    )
    assert np.array(outputs["pooled_output"]).any()


def test_roberta_computes_what_its_weights_say(roberta):
    directory, weights = roberta
    classifier = preset_classifier(directory, OUTPUTS, 0.1)
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
    expected = _forward(weights, tokens, np.zeros_like(tokens), mask, 2, 1e-5)
    np.testing.assert_allclose(
        np.array(outputs)[mask], expected[mask], atol=1e-5
    )
    hidden = np.tanh(_dense(weights, "classifier.dense", expected[:, 0]))
    np.testing.assert_allclose(
        classifier(inputs, training=False),
        _dense(weights, "classifier.out_proj", hidden),
        atol=1e-5,
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


def test_weights_are_read_in_every_precision(tmp_path):
    half = np.array([[1.5, -2.0], [0.25, 3.0]], "float16")
    tensors = {
        "half": half,
        # NumPy's own types have none of 16 bits with the range of 32.
        "brain": half.astype(ml_dtypes.bfloat16),
        "double": half.astype("float64"),
        "ids": np.arange(3),
        "mask": np.array([True]),
    }
    file = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, file)
    path, found = read_weights(tmp_path)
    assert path == file
    assert set(found) == {"half", "brain", "double"}
    for tensor in found.values():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor, half)


def test_weights_of_pytorch_are_read(bert):
    torch = pytest.importorskip("torch")
    directory, weights = bert
    (directory / "model.safetensors").unlink()
    path = directory / "pytorch_model.bin"
    state = {
        name if name.startswith("classifier") else f"bert.{name}": (
            torch.tensor(tensor)
        )
        for name, tensor in weights.items()
    }
    state["bert.embeddings.position_ids"] = torch.arange(POSITIONS)[None]
    torch.save(state, path)
    classifier = _bert(directory)
    logits = classifier(classifier.preprocessor(x=TEXTS), training=False)
    expected = _bert_logits(weights, TOKENS, SEGMENTS)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    whole = path.read_bytes()
    for content in (b"", b"no pickle", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="expected a whole file") as caught:
            _bert(directory)
        assert f"{path}: " in str(caught.value)
        assert "\n" not in str(caught.value)


def test_weights_of_pytorch_run_nothing(bert, monkeypatch):
    pytest.importorskip("torch")
    directory, _ = bert
    monkeypatch.chdir(directory)
    (directory / "model.safetensors").unlink()

    class Dangerous:
        def __reduce__(self):
            return os.system, ("touch was_run",)

    content = pickle.dumps({"weight": Dangerous()}, 2)
    (directory / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(InputError, match="expected a whole file"):
        _bert(directory)
    assert not (directory / "was_run").exists()


def test_weights_of_pytorch_need_it(bert, monkeypatch):
    directory, _ = bert
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match="Install torch, or fetch model.safe"):
        _bert(directory)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: _truncate(d / "model.safetensors"), "expected a whole"),
        (lambda d: (d / "model.safetensors").write_bytes(b""), "0 bytes"),
        (lambda d: (d / "model.safetensors").unlink(), "got neither"),
        (lambda d: (d / "vocab.txt").unlink(), "vocab.txt: No such file"),
        (lambda d: (d / "vocab.txt").write_text("a\nb"), "KerasHub refuses"),
        (
            lambda d: _change(d, hidden_act="relu"),
            "expected hidden_act gelu or",
        ),
        (lambda d: _change(d, layer_norm_eps=0.1), "layer_norm_eps 1e-12, got"),
        (lambda d: _change(d, num_hidden_layers=3), "encoder.layer.2.att"),
        (lambda d: _change(d, vocab_size=7), r"got shape \(8, 8\)"),
        # Before the memory of such a model is taken.
        (lambda d: _change(d, hidden_size=10**9), r"got shape \(8, 8\)"),
        (lambda d: _change(d, num_hidden_layers=10**9), "encoder.layer.2.att"),
        (lambda d: _change(d, num_attention_heads=3), "divides, got 8 and 3"),
        (lambda d: _change(d, num_attention_heads=True), "got True"),
        (lambda d: _change(d, vocab_size="8"), "number for vocab_size, got 8"),
        (lambda d: _change(d, hidden_act=["gelu"]), "got .'gelu'."),
        (lambda d: _change(d, layer_norm_eps="1e-12"), "1e-12, got 1e-12"),
        (lambda d: _change(d, model_type=["bert"]), "got .'bert'."),
        (
            lambda d: (d / "config.json").write_text("[" * 10**5),
            "not a KerasHub config",
        ),
        (
            lambda d: (d / "tokenizer_config.json").write_text("[" * 10**5),
            "KerasHub refuses",
        ),
        (
            lambda d: (d / "vocab.txt").write_text(
                "\n".join([*WORDS[:7], "big"])
            ),
            "vocab.txt:8: expected a new piece, got 'big' again",
        ),
        (
            lambda d: (d / "vocab.txt").write_text("\n".join([*WORDS, "more"])),
            "expected ids from 0 to 7, as the embeddings have",
        ),
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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        # Of the right size, so that they could be reshaped.
        ("encoder.layer.0.intermediate.dense.weight", (WIDTH, INNER)),
        ("encoder.layer.1.output.dense.weight", (INNER, WIDTH)),
        ("encoder.layer.1.attention.self.key.weight", (WIDTH // 2, 2 * WIDTH)),
        ("encoder.layer.0.attention.output.dense.bias", (1, WIDTH)),
        ("embeddings.word_embeddings.weight", (WIDTH * len(WORDS),)),
        ("classifier.weight", (OUTPUTS, 2, WIDTH // 2)),
    ],
)
def test_tensors_of_another_shape_are_refused(bert, name, shape):
    directory, weights = bert
    expected = weights[name].shape
    _save(directory, weights | {name: weights[name].reshape(shape)}, "bert")
    with pytest.raises(InputError) as caught:
        _bert(directory)
    message = f"expected shape {expected} of {name}, got shape {shape}."
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2")],
)
def test_quantized_weights_are_refused(bert, kind, shown):
    directory, weights = bert
    name = "encoder.layer.0.output.dense.weight"
    tensor = weights[name].astype(getattr(ml_dtypes, kind))
    _save(directory, weights | {name: tensor}, "bert")
    with pytest.raises(InputError, match=f"got {shown} in bert.{name}. Fetch"):
        _bert(directory)


def test_weights_of_four_bits_are_refused(bert):
    directory, _ = bert
    header = {"a": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    path = directory / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"xy")
    with pytest.raises(
        InputError, match="model.safetensors: expected .*F"
    ) as e:
        _bert(directory)
    assert "\n" not in str(e.value)


def test_vocabulary_of_roberta_is_checked(roberta):
    directory, _ = roberta
    path = directory / "vocab.json"
    vocabulary = json.loads(path.read_text())
    for change, message in (
        ({"he": 3}, "an id of its own for each piece, got 262 ids for 263"),
        ({"he": 1000}, "expected ids from 0 to 262"),
        ({"he": "x"}, "expected ids from 0 to 262"),
    ):
        path.write_text(json.dumps(vocabulary | change))
        with pytest.raises(InputError, match=message):
            preset_classifier(directory, 2, 0.1)
    path.write_text("[" * 10**5)
    with pytest.raises(InputError, match="vocabulary of a roberta"):
        preset_classifier(directory, 2, 0.1)


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
    arguments = ["train", "text_classification"]
    arguments += ["--recipe=glue_rte_roberta_large", f"--data={data}"]
    arguments += [f"--preset={directory}", f"--output={output}", "--updates=3"]
    assert main([*arguments, "--warm-up=1", "--batch-size=4"]) == 0
    assert "valid: accuracy " in capsys.readouterr().out
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
