"""The adaptive softmax layer against PyTorch's, and as a Keras layer."""

import autodiff
import keras
import numpy as np
import pytest

from rdrop_keras import RDrop
from rdrop_keras import RDropModel
from rdrop_keras.contrib.adaptive_softmax import AdaptiveWeights
from rdrop_keras.layers import AdaptiveSoftmax
from rdrop_keras.losses import adaptive_rdrop_loss

WIDTH, WORDS, CUTOFFS = 18, 23, [5, 11]


numpy = keras.ops.convert_to_numpy


def built(*args, width=WIDTH, **options):
    layer = AdaptiveSoftmax(*(args or (WORDS, CUTOFFS)), **options)
    layer.build((None, None, width))
    return layer


@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize("cutoffs", [[1], [22], [5, 11], [2, 3, 20]])
def test_probabilities_of_all_words_sum_to_one(cutoffs, head_bias, rng):
    layer = built(WORDS, cutoffs, 2.0, head_bias)
    if head_bias:
        layer.bias.assign(rng.normal(size=layer.bias.shape))
    hidden = 3 * rng.normal(size=(2, 4, WIDTH)).astype("float32")
    found = np.array(layer(hidden))
    assert found.shape == (2, 4, WORDS)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("head_bias", [False, True])
@pytest.mark.parametrize(
    ("cutoffs", "div_value"),
    [([4], 4.0), ([5, 11], 4.0), ([5, 11], 2.5), ([3, 4, 19], 2.0)],
)
def test_equals_pytorch(cutoffs, div_value, head_bias, rng):
    torch = pytest.importorskip("torch")
    other = torch.nn.AdaptiveLogSoftmaxWithLoss(
        WIDTH, WORDS, cutoffs, div_value, head_bias
    )
    layer = built(WORDS, cutoffs, div_value, head_bias)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(torch.tensor(rng.normal(size=parameter.shape)))
        layer.kernel.assign(other.head.weight.T.numpy())
        if head_bias:
            layer.bias.assign(other.head.bias.numpy())
        for i, (projection, kernel) in enumerate(other.tail):
            layer.projections[i].assign(projection.weight.T.numpy())
            layer.kernels[i].assign(kernel.weight.T.numpy())
    hidden = rng.normal(size=(2, 30, WIDTH)).astype("float32")
    labels = rng.integers(0, WORDS, 30)
    parameters = list(other.parameters())
    # One pass twice: what is left is the task loss.
    result = other(torch.tensor(hidden[0]), torch.tensor(labels))
    of_other = torch.autograd.grad(result.loss, parameters)
    with torch.no_grad():
        for h in hidden:
            expected = other.log_prob(torch.tensor(h)).numpy()
            np.testing.assert_allclose(numpy(layer(h)), expected, 1e-5, 1e-5)
    found, of_layer = autodiff.by_variables(
        lambda: adaptive_rdrop_loss(
            labels, [hidden[0]] * 2, layer, alpha=0.0, chunk_size=7
        ),
        layer.trainable_variables,
    )
    np.testing.assert_allclose(found.loss, result.loss.item(), rtol=1e-5)
    np.testing.assert_allclose(found.task_loss, result.loss.item(), rtol=1e-5)
    np.testing.assert_allclose(found.nll, 30 * result.loss.item(), rtol=1e-5)
    np.testing.assert_allclose(found.consistency, 0.0, atol=1e-6)
    # PyTorch lists the head, then a projection and a kernel by turns.
    head = 2 if head_bias else 1
    order = [*range(head), *range(head, len(parameters), 2)]
    order += range(head + 1, len(parameters), 2)
    for gradient, at in zip(of_layer, order, strict=True):
        expected = of_other[at].numpy().T
        np.testing.assert_allclose(gradient, expected, 1e-4, 1e-5)
    best = np.array(layer(hidden[0])).argmax(-1)
    assert found.correct == (best == labels).sum()


def test_float32_under_every_policy(rng):
    hidden = rng.normal(size=(2, 3, WIDTH)).astype("float32")
    plain = built()
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = built(dtype=policy)
        layer.set_weights(plain.get_weights())
        found = layer(hidden)
        assert keras.backend.standardize_dtype(found.dtype) == "float32"
        assert layer(keras.Input((3, WIDTH))).dtype == "float32"
        np.testing.assert_allclose(found, plain(hidden), atol=0.03)


def test_dropout_leaves_the_dtype_to_the_hidden_states(rng):
    """Whatever the policy of the layer, which is not called by the loss."""
    layer = built(dropout=0.5, dtype="mixed_float16")
    hidden = rng.normal(size=(2, 4, WIDTH))
    labels = rng.integers(0, WORDS, 4)
    for dtype in ("float32", "float16"):
        passes = [keras.ops.convert_to_tensor(h, dtype) for h in hidden]
        _, gradients = autodiff.differentiate(
            lambda *passes: adaptive_rdrop_loss(
                labels, passes, layer, training=True
            ),
            [],
            passes,
        )
        for gradient in gradients:
            assert keras.backend.standardize_dtype(gradient.dtype) == dtype
            assert np.abs(numpy(gradient)).max() > 0


def test_forbidden_words_and_clusters(rng):
    layer = built(head_bias=True)
    bias = np.zeros(layer.bias.shape)
    bias[[1, 6]] = -np.inf
    layer.bias.assign(bias)
    found = np.exp(layer(rng.normal(size=(4, WIDTH)).astype("float32")))
    np.testing.assert_array_equal(found[:, [1, *range(11, WORDS)]], 0)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


def test_dropout_is_between_the_kernels_of_clusters(rng):
    hidden = rng.normal(size=(64, WIDTH)).astype("float32")
    layer, plain = built(dropout=0.5, seed=1), built()
    plain.set_weights([numpy(w) for w in layer.trainable_variables])
    np.testing.assert_array_equal(layer(hidden), plain(hidden))
    first, second = (np.array(layer(hidden, training=True)) for _ in range(2))
    np.testing.assert_allclose(first[:, :5], plain(hidden)[:, :5], 1e-6)
    assert not np.array_equal(first[:, 5:], second[:, 5:])
    np.testing.assert_allclose(np.exp(first).sum(-1), 1.0, rtol=1e-5)


def test_kernels_do_not_share_numbers_and_are_regularized():
    layer = built(
        30, [10, 20], 1.0, kernel_regularizer=keras.regularizers.L2(0.1)
    )
    first, second = (numpy(w) for w in layer.projections)
    assert not np.isclose(first, second).any()
    assert len(layer.losses) == 5
    total = sum((numpy(w) ** 2).sum() for w in layer.trainable_variables)
    np.testing.assert_allclose(sum(layer.losses), 0.1 * total, rtol=1e-5)


def language_model(rate=0.2, **options):
    inputs = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(WORDS, 16, mask_zero=True)(inputs)
    x = keras.layers.Dense(24, "relu")(x)
    x = keras.layers.Dropout(rate)(x)
    layer = AdaptiveSoftmax(WORDS, CUTOFFS, 2.0, dropout=rate, **options)
    return keras.Model(inputs, layer(x))


def words(rng, rows=32, time=6):
    """Sequences in which the next word is a function of the last."""
    first = rng.integers(1, WORDS, (rows, 1))
    found = (first - 1 + 5 * np.arange(time + 1)) % (WORDS - 1) + 1
    return found[:, :-1], found[:, 1:]


def test_trains_with_plain_fit(rng):
    x, y = words(rng, 64)
    model = language_model()
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    before = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=16, epochs=20, verbose=0)
    after = model.evaluate(x, y, verbose=0)
    assert before[0] > 2.0 > 0.7 > after[0]
    assert after[1] > 0.8


def test_trains_with_rdrop_model(rng):
    """Its log-probabilities are logits to the losses and divergences."""
    x, y = words(rng)
    inner = language_model()
    model = RDropModel(inner.inputs, inner.outputs)
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=RDrop(alpha=1.0),
    )
    logs = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history
    assert logs["loss"][-1] < 0.8 * logs["loss"][0]
    assert min(logs["consistency_loss"]) > 0


class Chunked(keras.Model):
    """Trains the body and the layer of a model without log-probabilities."""

    def __init__(self, model, **kwargs):
        super().__init__(**kwargs)
        self.inner = model
        self.body = keras.Model(model.input, model.layers[-1].input)
        self.layer = model.layers[-1]

    def call(self, inputs, training=None):
        return self.inner(inputs, training=training)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            hidden = [self.body(x, training=True) for _ in range(2)]
            result = adaptive_rdrop_loss(
                y, hidden, self.layer, alpha=1.0, chunk_size=40, training=True
            )
        weights = self.trainable_weights
        gradients = tape.gradient(result.loss, [w.value for w in weights])
        self.optimizer.apply(gradients, weights)
        return {"loss": result.loss, "consistency": result.consistency}


@pytest.mark.only("tensorflow", reason="a step with a gradient tape")
def test_trains_in_a_step_of_ones_own(rng):
    x, y = words(rng)
    model = Chunked(language_model())
    model.compile(keras.optimizers.Adam(0.02), jit_compile=True)
    logs = model.fit(x, y, batch_size=16, epochs=12, verbose=0).history
    assert logs["loss"][-1] < 0.6 * logs["loss"][0]
    assert min(logs["consistency"]) > 0
    # Only the dropout between the kernels of clusters differs here.
    hidden = [model.body(x)] * 2
    options = {"alpha": 1.0, "gradients": False}
    active = adaptive_rdrop_loss(
        y, hidden, model.layer, training=True, **options
    )
    still = adaptive_rdrop_loss(y, hidden, model.layer, **options)
    assert active.consistency > 1e-3
    np.testing.assert_allclose(still.consistency, 0.0, atol=1e-6)


def test_round_trip_through_a_file(rng, tmp_path):
    x, _ = words(rng)
    model = language_model(
        head_bias=True,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.3),
        kernel_regularizer=keras.regularizers.L2(1e-4),
        seed=5,
    )
    model.save(tmp_path / "model.keras")
    other = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model.predict(x, verbose=0), other(x))
    config = model.layers[-1].get_config()
    assert other.layers[-1].get_config() == config
    assert AdaptiveSoftmax.from_config(config).get_config() == config
    assert config["cutoffs"] == CUTOFFS and config["dropout"] == 0.2


@pytest.mark.parametrize(
    "cutoffs",
    [[], [0, 5], [5, 5], [11, 5], [5, 23], [30], [2.5], "ab", 5, None, [-1]],
)
def test_bad_cutoffs(cutoffs):
    with pytest.raises(ValueError, match="Expected `cutoffs` to be a list"):
        AdaptiveSoftmax(WORDS, cutoffs)


def test_errors(rng):
    with pytest.raises(ValueError, match="Expected `cutoffs` to be a list"):
        AdaptiveSoftmax(2.5, [1])
    with pytest.raises(ValueError, match="Expected `div_value`"):
        AdaptiveSoftmax(WORDS, CUTOFFS, div_value=0.5)
    with pytest.raises(ValueError, match=r"widths \[4, 1, 0\]. Lower `div_v"):
        built(WORDS, [2, 4, 8])
    with pytest.raises(ValueError, match="Expected the width"):
        AdaptiveSoftmax(WORDS, CUTOFFS).build((None, None))
    y, hidden = np.array([1, 2]), [np.ones((2, WIDTH), "float32")] * 2
    with pytest.raises(ValueError, match=r"Call `words.build\(\(None, width"):
        layer = AdaptiveSoftmax(WORDS, CUTOFFS, name="words")
        adaptive_rdrop_loss(y, hidden, layer)
    with pytest.raises(TypeError, match="A plain head takes `vocabulary_rdr"):
        adaptive_rdrop_loss(y, hidden, keras.layers.Dense(3))
    layer = built()
    kernel, bias, projections, kernels = layer.adaptive_weights()
    for weights in (
        AdaptiveWeights(
            keras.ops.transpose(kernel), bias, projections, kernels
        ),
        AdaptiveWeights(kernel, bias, projections[:1], kernels),
        AdaptiveWeights(kernel, bias, [], []),
        AdaptiveWeights(kernel, bias, projections[::-1], kernels),
        AdaptiveWeights(kernel, np.zeros(3), projections, kernels),
        AdaptiveWeights(kernel[:, :2], bias, projections, kernels),
        AdaptiveWeights(kernel[0], bias, projections, kernels),
    ):
        with pytest.raises(ValueError, match="weights of an adaptive softmax"):
            adaptive_rdrop_loss(y, hidden, weights)
    with pytest.raises(ValueError, match="width=17"):
        adaptive_rdrop_loss(y, [h[:, 1:] for h in hidden], layer)
