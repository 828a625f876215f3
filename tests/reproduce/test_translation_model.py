"""The Transformer against PyTorch's, its masks, dropout and files."""

import dataclasses

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf

from rdrop_keras import RDrop
from rdrop_keras.losses import LabelSmoothedCrossentropy
from reproduce.data.special_ids import BOS
from reproduce.data.special_ids import PAD
from reproduce.models import attention as layers
from reproduce.models.sizes import TRANSLATION_SIZES
from reproduce.models.transformer import Residual
from reproduce.models.translation import Transformer

ops = keras.ops
VOCABULARY = 13
RATES = ("dropout", "attention_dropout", "activation_dropout")


def transformer(model_class=Transformer, **changes):
    settings = dict(
        vocabulary_size=VOCABULARY,
        num_layers=1,
        width=8,
        feed_forward=12,
        num_heads=2,
        **dict.fromkeys(RATES, 0.0),
    )
    return model_class(**{**settings, **changes})


def shake(model, rng):
    """Moves all weights, so that none is 0 or 1 as biases and scales begin."""
    for weight in model.trainable_variables:
        weight.assign(weight + 0.2 * rng.normal(size=weight.shape))
    return model


def batch(rng, source_lengths=(5, 2, 4), target_lengths=(3, 6, 1)):
    def ids(lengths):
        rows = rng.integers(4, VOCABULARY, (len(lengths), max(lengths)))
        rows[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = PAD
        return rows.astype("int32")

    target_ids = ids(target_lengths)
    target_ids[:, 0] = BOS
    x = {"source_ids": ids(source_lengths), "target_ids": target_ids}
    return x, rng.integers(2, VOCABULARY, target_ids.shape)


def sinusoids(time, width):
    angles = np.arange(time)[:, None] / 10000 ** (
        np.arange(0, width, 2) / width
    )
    return np.stack([np.sin(angles), np.cos(angles)], -1).reshape(time, width)


def copy_to_torch(model, theirs):
    torch = pytest.importorskip("torch")

    def copy(parameter, *arrays):
        array = np.concatenate([np.array(a).T for a in arrays])
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(array))

    def copy_dense(linear, dense):
        copy(linear.weight, dense.kernel)
        copy(linear.bias, dense.bias)

    def copy_attention(theirs, ours):
        three = (ours.query, ours.key, ours.value)
        copy(theirs.in_proj_weight, *(dense.kernel for dense in three))
        copy(theirs.in_proj_bias, *(dense.bias for dense in three))
        copy_dense(theirs.out_proj, ours.output_dense)

    def copy_norm(theirs, ours):
        copy(theirs.weight, ours.norm.gamma)
        copy(theirs.bias, ours.norm.beta)

    stacks = [
        (theirs.encoder.layers, model.encoder_layers),
        (theirs.decoder.layers, model.decoder_layers),
    ]
    for their_layers, our_layers in stacks:
        for layer, ours in zip(their_layers, our_layers):
            copy_attention(layer.self_attn, ours.attention)
            copy_norm(layer.norm1, ours.attention_residual)
            copy_dense(layer.linear1, ours.feed_forward.inner)
            copy_dense(layer.linear2, ours.feed_forward.outer)
            norm = layer.norm2
            if hasattr(ours, "source_attention"):
                copy_attention(layer.multihead_attn, ours.source_attention)
                copy_norm(layer.norm2, ours.source_residual)
                norm = layer.norm3
            copy_norm(norm, ours.feed_forward_residual)


@pytest.mark.parametrize("shared", [True, False])
def test_computes_what_pytorch_does(shared, rng):
    torch = pytest.importorskip("torch")
    model = transformer(
        num_layers=2,
        shared_embeddings=shared,
        source_vocabulary_size=None if shared else VOCABULARY + 4,
    )
    shake(model, rng)
    sizes = dict(
        d_model=8, nhead=2, dim_feedforward=12, dropout=0.0, batch_first=True
    )
    # `torch.nn.Transformer` norms what both stacks return once more, unless
    # it is handed the stacks.
    theirs = torch.nn.Transformer(
        d_model=8,
        nhead=2,
        batch_first=True,
        custom_encoder=torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(**sizes),
            2,
            enable_nested_tensor=False,
        ),
        custom_decoder=torch.nn.TransformerDecoder(
            torch.nn.TransformerDecoderLayer(**sizes), 2
        ),
    )
    copy_to_torch(model, theirs)
    x, _ = batch(rng)
    if not shared:
        x["source_ids"][0, 1] = VOCABULARY + 3
    target_table = np.array(model.embedding.embeddings)
    source_table = np.array(model.source_embedding.embeddings)

    def embed(table, ids):
        embedded = table[ids] * 8**0.5 + sinusoids(ids.shape[1], 8)
        return torch.from_numpy(embedded.astype("float32"))

    source_padding = torch.from_numpy(x["source_ids"] == PAD)
    time = x["target_ids"].shape[1]
    hidden = theirs(
        embed(source_table, x["source_ids"]),
        embed(target_table, x["target_ids"]),
        tgt_mask=torch.triu(torch.ones(time, time), 1) > 0,
        src_key_padding_mask=source_padding,
        tgt_key_padding_mask=torch.from_numpy(x["target_ids"] == PAD),
        memory_key_padding_mask=source_padding,
    )
    expected = hidden.detach().numpy() @ target_table.T
    words = x["target_ids"] != PAD
    np.testing.assert_allclose(
        np.array(model(x))[words], expected[words], atol=1e-4
    )


def test_initial_ranges(rng):
    model = transformer(width=64, feed_forward=256, vocabulary_size=500)
    attention = model.decoder_layers[0].source_attention
    expected = {
        # Xavier of three 64x64 kernels as one of 64x192.
        attention.query: (6 / (64 + 192)) ** 0.5,
        attention.key: (6 / (64 + 192)) ** 0.5,
        attention.value: (6 / (64 + 192)) ** 0.5,
        attention.output_dense: (6 / 128) ** 0.5,
        model.encoder_layers[0].feed_forward.inner: (6 / 320) ** 0.5,
        model.encoder_layers[0].feed_forward.outer: (6 / 320) ** 0.5,
    }
    for dense, limit in expected.items():
        largest = np.abs(dense.kernel).max()
        assert 0.98 * limit < largest <= limit
        assert not np.any(dense.bias)
    table = np.array(model.embedding.embeddings)
    np.testing.assert_allclose(table.std(), 64**-0.5, rtol=0.03)


def test_padding_is_no_part_of_loss_and_consistency(rng):
    outputs = []

    class Recorder(Transformer):
        def call(self, inputs, training=None):
            outputs.append(super().call(inputs, training=training))
            return outputs[-1]

    model = transformer(Recorder, **dict.fromkeys(RATES, 0.3))
    x, y = batch(rng)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, rdrop=RDrop(alpha=3.0))
    model.compute_rdrop_loss(x, y)  # The first call of all looks at the model.
    outputs.clear()
    found, _ = model.compute_rdrop_loss(x, y)
    first, second = (reference.softmax(np.float64(o)) for o in outputs)
    words = x["target_ids"] != PAD
    task = [reference.task_loss("categorical", y, p) for p in (first, second)]
    consistency = reference.pairwise("categorical", [first, second])
    np.testing.assert_allclose(
        found,
        np.mean([t[words].mean() for t in task])
        + 3.0 / 2 * consistency[words].mean(),
        rtol=1e-5,
    )
    assert abs(consistency.mean() / consistency[words].mean() - 1) > 1e-3


def test_padding_never_changes_the_others(rng):
    model = shake(transformer(num_layers=2), rng)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, rdrop=None)
    x, y = batch(rng)
    together = np.array(model(x, training=True))
    wide = {k: np.pad(v, ((0, 0), (0, 3))) for k, v in x.items()}
    wider = np.array(model(wide, training=True))
    losses = []
    for row in range(3):
        alone = {
            name: ids[row : row + 1, : np.count_nonzero(ids[row])]
            for name, ids in x.items()
        }
        logits = np.array(model(alone, training=True))[0]
        time = len(logits)
        np.testing.assert_allclose(together[row, :time], logits, atol=1e-5)
        np.testing.assert_allclose(wider[row, :time], logits, atol=1e-5)
        one, _ = model.compute_rdrop_loss(alone, y[row : row + 1, :time])
        losses.append(float(one) * time)
    words = np.count_nonzero(x["target_ids"])
    total, _ = model.compute_rdrop_loss(x, y)
    np.testing.assert_allclose(total, sum(losses) / words, atol=1e-5)
    total, _ = model.compute_rdrop_loss(wide, np.pad(y, ((0, 0), (0, 3))))
    np.testing.assert_allclose(total, sum(losses) / words, atol=1e-5)


def test_no_position_sees_a_later_one(rng):
    # With different ids everywhere, rows of the table are positions.
    model = transformer(
        num_layers=2, shared_embeddings=False, source_vocabulary_size=VOCABULARY
    )
    shake(model, rng)
    target_ids = np.array([[BOS, 4, 5, 6, 7, 8]], "int32")
    x = {"source_ids": np.array([[4, 5, 6]]), "target_ids": target_ids}
    table = model.embedding.embeddings.value
    for position in range(target_ids.shape[1]):
        with tf.GradientTape() as tape:
            hidden = model.hidden_states(x, training=True)
            output = ops.sum(hidden[0, position] * rng.normal(size=8))
        gradient = tf.convert_to_tensor(tape.gradient(output, table))
        gradient = np.abs(np.array(gradient)).sum(-1)[target_ids[0]]
        assert (gradient[: position + 1] > 0).all()
        assert (gradient[position + 1 :] == 0).all()


def dropout_layers(model):
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.Dropout)
    ]


def test_every_dropout_is_active_and_has_its_rate(rng):
    model = transformer(
        dropout=0.5, attention_dropout=0.6, activation_dropout=0.7
    )
    shake(model, rng)
    found = dropout_layers(model)
    # Embeddings 2 and residual branches 2 + 3; attention 1 + 2; ReLU 1 + 1.
    rates = sorted(layer.rate for layer in found)
    assert rates == [0.5] * 7 + [0.6] * 3 + [0.7] * 2
    x, _ = batch(rng)
    for layer in found:
        layer.rate = 0.0
    still = np.array(model(x, training=True))
    np.testing.assert_array_equal(still, model(x, training=False))
    for index, layer in enumerate(found):
        layer.rate = 0.5
        one, other = (np.array(model(x, training=True)) for _ in range(2))
        assert np.abs(one - other).max() > 1e-4, index
        np.testing.assert_array_equal(still, model(x, training=False))
        layer.rate = 0.0


def test_attention_drops_probabilities(rng):
    layer = layers.Attention(1, 4, dropout=0.5)
    layer.build()
    x = rng.normal(size=(64, 1, 4)).astype("float32")
    memory = layer.keys_and_values(x)
    visible = np.ones((1, 1), bool)
    got = np.array(layer(x, memory, visible, training=True))
    kept = np.array(layer(x, memory, visible, training=False))
    # One key: its probability, 1, becomes 2 or 0, and all of a row with it.
    dropped = np.isclose(got, 0).all(-1)
    assert 10 < dropped.sum() < 54
    np.testing.assert_allclose(got[~dropped], 2 * kept[~dropped], rtol=1e-4)


def test_feed_forward_drops_activations(rng):
    layer = layers.FeedForward(4, 4, dropout=0.5)
    layer.build()
    layer.outer.kernel.assign(np.eye(4))
    x = rng.normal(size=(64, 1, 4)).astype("float32")
    got, kept = (np.array(layer(x, training=t)) for t in (True, False))
    np.testing.assert_allclose(kept, np.maximum(layer.inner(x), 0))
    dropped = np.isclose(got, 0)
    np.testing.assert_allclose(got[~dropped], 2 * kept[~dropped], rtol=1e-5)
    assert 20 < (dropped & (kept > 0)).sum() < 108


def test_residual_drops_the_branch(rng):
    layer = Residual(4, dropout=0.5)
    layer.build()
    x, branch = rng.normal(size=(2, 64, 1, 4)).astype("float32")
    still = layer(x, 0 * branch, training=True)
    np.testing.assert_array_equal(still, layer.norm(x))
    got, kept = (layer(x, branch, training=t) for t in (True, False))
    np.testing.assert_array_equal(kept, layer.norm(x + branch))
    assert np.abs(got - kept).max() > 0.1


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_precision(policy, rng, tmp_path):
    model = transformer(width=16)
    keras.config.set_dtype_policy(policy)
    half = transformer(width=16)
    half.set_weights(model.get_weights())
    # As long as it takes for half-precision positions to go wrong.
    x, y = batch(rng, (400, 300, 5), (350, 390, 6))
    logits = half(x)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    # As decoding calls it, outside of the model's own call.
    direct = half.logits(half.hidden_states(x))
    assert keras.backend.standardize_dtype(direct.dtype) == "float32"
    words = x["target_ids"] != PAD
    np.testing.assert_array_equal(logits._keras_mask, words)
    difference = np.abs(np.array(logits) - np.array(model(x)))[words]
    assert difference.max() < 0.15
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    half.compile("sgd", loss, rdrop=5.0)
    assert np.isfinite(half.compute_rdrop_loss(x, y)[0])
    half.optimizer.build(half.trainable_variables)
    half.save(tmp_path / "half.keras")
    keras.config.set_dtype_policy("float32")
    again = keras.saving.load_model(tmp_path / "half.keras")
    assert again.decoder_layers[0].attention.query.compute_dtype == policy[6:]
    np.testing.assert_array_equal(again(x), logits)


@pytest.mark.parametrize("shared", [True, False])
def test_a_file_brings_back_the_same_model(shared, rng, tmp_path):
    model = transformer(
        shared_embeddings=shared,
        source_vocabulary_size=None if shared else 2 * VOCABULARY,
        dropout=0.2,
    )
    shake(model, rng)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, rdrop=5.0)
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    assert again.rdrop.alpha == 5.0
    x, _ = batch(rng)
    np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_trains(jit_compile, rng):
    # XLA takes long to compile random numbers: one dropout rate is enough.
    model = transformer(
        dropout=0.0 if jit_compile else 0.1, activation_dropout=0.1
    )
    x, _ = batch(rng, [4] * 16, [5] * 16)
    y = np.pad(x["target_ids"][:, 1:], ((0, 0), (0, 1)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.Adam(0.01)
    model.compile(optimizer, loss, rdrop=5.0, jit_compile=jit_compile)
    history = model.fit(x, y, batch_size=8, epochs=10, verbose=0).history
    assert history["task_loss"][-1] < history["task_loss"][0] - 0.2
    assert min(history["consistency_loss"]) > 0


@pytest.mark.parametrize("name", TRANSLATION_SIZES)
def test_configurations_make_models(name):
    small = dict(num_layers=1, width=16, feed_forward=8)
    changed = dataclasses.replace(TRANSLATION_SIZES[name], **small)
    model = Transformer(VOCABULARY, **dataclasses.asdict(changed))
    assert model.configuration == changed


def test_refuses():
    with pytest.raises(ValueError, match="source and target to have one"):
        transformer(source_vocabulary_size=VOCABULARY + 1)
    with pytest.raises(ValueError, match="`num_heads` divides"):
        transformer(num_heads=3)


def test_logits_in_chunks_train_the_same_weights(rng):
    x, y = batch(rng)
    results = []
    for chunk in (None, 5):
        keras.utils.set_random_seed(3)
        model = transformer(**dict.fromkeys(RATES, 0.2))
        shake(model, np.random.default_rng(4))
        model.compile(
            keras.optimizers.SGD(0.1),
            LabelSmoothedCrossentropy(0.1),
            rdrop=RDrop(5.0, vocabulary_chunk=chunk),
        )
        logs = model.train_on_batch(x, y, return_dict=True)
        results.append((logs, [np.array(w) for w in model.weights]))
    (logs, weights), (chunked_logs, chunked_weights) = results
    for name in ("loss", "task_loss", "consistency_loss"):
        np.testing.assert_allclose(chunked_logs[name], logs[name], rtol=1e-5)
    assert logs["consistency_loss"] > 1e-3
    for weight, other in zip(weights, chunked_weights, strict=True):
        np.testing.assert_allclose(other, weight, rtol=1e-4, atol=1e-6)
