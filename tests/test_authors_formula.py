"""The authors' formulas, by PyTorch's own operations."""

import builders
import keras
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDropModel

torch = pytest.importorskip("torch")
functional = torch.nn.functional

FEATURES, CLASSES = 4, 7


def categorical(p, q, y):
    """As in translation_rdrop: for each token CE_1 + CE_2, and the mean of
    `kl_div` in both directions, summed over the vocabulary."""

    def nll(z):
        return functional.cross_entropy(
            z.flatten(0, -2), y.flatten(), reduction="none"
        ).reshape(y.shape)

    def kl(a, b):
        return functional.kl_div(
            functional.log_softmax(a, dim=-1),
            functional.softmax(b, dim=-1),
            reduction="none",
        ).sum(-1)

    return nll(p) + nll(q), (kl(p, q) + kl(q, p)) / 2


def bernoulli(p, q, y):
    """The same over the two outcomes of each label, averaged over labels."""

    def nll(z):
        return functional.binary_cross_entropy_with_logits(
            z, y, reduction="none"
        ).mean(-1)

    def kl(a, b):
        def log_outcomes(z):
            return torch.stack(
                [functional.logsigmoid(z), functional.logsigmoid(-z)], -1
            )

        return (
            functional.kl_div(
                log_outcomes(a),
                log_outcomes(b),
                reduction="none",
                log_target=True,
            )
            .sum(-1)
            .mean(-1)
        )

    return nll(p) + nll(q), (kl(p, q) + kl(q, p)) / 2


def squared_error(p, q, y):
    """As in their `modeling_bert.py` for STS-B: MSE_1 + MSE_2, and the MSE
    between the passes."""

    def mse(a, b):
        return functional.mse_loss(a, b, reduction="none").mean(-1)

    return mse(p, y) + mse(q, y), mse(p, q)


FORMULAS = {
    "categorical": (categorical, builders.cross_entropy),
    "bernoulli": (
        bernoulli,
        lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    ),
    "squared_error": (squared_error, keras.losses.MeanSquaredError),
}


@pytest.mark.parametrize("alpha, weighted", [(0.7, False), (5.0, True)])
@pytest.mark.parametrize("shape", [(6, 5), (1, 3), (4, 1), (5,)], ids=str)
@pytest.mark.parametrize("kind", FORMULAS)
def test_half_the_authors_loss_and_gradient(kind, shape, alpha, weighted, rng):
    """They add what we average, so that theirs is twice ours: summed over the
    items that count, with their weights, and divided by their number."""
    formula, make_loss = FORMULAS[kind]
    sequence = len(shape) == 2
    x = rng.normal(size=(*shape, FEATURES)).astype("float32")
    valid = np.ones(shape, bool)
    if sequence:
        lengths = rng.integers(1, shape[1] + 1, (shape[0], 1))
        valid = np.arange(shape[1]) < lengths
        x[~valid] = 0
    y = {
        "categorical": lambda: rng.integers(0, CLASSES, shape),
        "bernoulli": lambda: rng.integers(0, 2, (*shape, CLASSES)) * 1.0,
        "squared_error": lambda: rng.normal(size=(*shape, CLASSES)),
    }[kind]()
    weights = rng.random(shape) if weighted else np.ones(shape)
    masks = random_masks(rng, 2, shape[0], FEATURES)

    inputs = keras.Input(x.shape[1:])
    hidden = keras.layers.Masking()(inputs) if sequence else inputs
    hidden = ScriptedDropout(masks)(hidden)
    model = RDropModel(inputs, keras.layers.Dense(CLASSES)(hidden))
    model.compile(
        keras.optimizers.SGD(1.0),
        make_loss(),
        rdrop=alpha,
        run_eagerly=not weighted,
    )
    before = np.array(model.trainable_weights[0], "float64")
    kernel = torch.tensor(before, requires_grad=True)
    bias = torch.tensor(np.array(model.trainable_weights[1], "float64"))
    lifted = masks[:, :, None] if sequence else masks
    outputs = [
        torch.tensor(np.float64(x) * np.float64(mask)) @ kernel + bias
        for mask in lifted
    ]
    task, divergence = formula(*outputs, torch.tensor(y))
    counted = torch.tensor(weights * valid)
    loss = ((task + alpha * divergence) * counted).sum() / valid.sum()
    loss.backward()

    logs = model.train_on_batch(
        x, y, weights if weighted else None, return_dict=True
    )
    np.testing.assert_allclose(2 * logs["loss"], loss.item(), rtol=1e-5)
    step = before - np.array(model.trainable_weights[0], "float64")
    np.testing.assert_allclose(
        2 * step, kernel.grad.numpy(), rtol=1e-4, atol=1e-6
    )
