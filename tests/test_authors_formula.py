"""The authors' formula, by PyTorch's own operations."""

import keras
import numpy as np
import pytest
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDropModel

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def authors_loss(logits, other, y, pad_mask, alpha):
    """Summed over tokens as in translation_rdrop, divided by the tokens:
    CE_1 + CE_2 + alpha * (KL(p || q) + KL(q || p)) / 2."""

    def nll(z):
        losses = functional.cross_entropy(
            z.flatten(0, -2), y.flatten(), reduction="none"
        )
        return losses.masked_fill(pad_mask.flatten(), 0.0).sum()

    def kl(a, b):
        values = functional.kl_div(
            functional.log_softmax(a, dim=-1),
            functional.softmax(b, dim=-1),
            reduction="none",
        )
        return values.masked_fill(pad_mask.unsqueeze(-1), 0.0).sum()

    tokens = (~pad_mask).sum()
    divergence = (kl(logits, other) + kl(other, logits)) / 2
    return (nll(logits) + nll(other) + alpha * divergence) / tokens


@pytest.mark.parametrize("alpha", [0.7, 5.0])
@pytest.mark.parametrize("shape", [(6, 5), (1, 3), (4, 1)])
def test_half_the_authors_loss_and_gradient(shape, alpha, rng):
    batch, time = shape
    features, classes = 4, 7
    x = rng.normal(size=(*shape, features)).astype("float32")
    valid = np.arange(time) < rng.integers(1, time + 1, (batch, 1))
    x[~valid] = 0
    y = rng.integers(0, classes, shape)
    masks = random_masks(rng, 2, batch, features)
    inputs = keras.Input((time, features))
    hidden = ScriptedDropout(masks)(keras.layers.Masking()(inputs))
    model = RDropModel(inputs, keras.layers.Dense(classes)(hidden))
    model.compile(
        keras.optimizers.SGD(1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        rdrop=alpha,
    )
    kernel = torch.tensor(
        np.float64(model.trainable_weights[0]), requires_grad=True
    )
    bias = torch.tensor(np.float64(model.trainable_weights[1]))
    outputs = [
        torch.tensor(np.float64(x) * mask[:, None]) @ kernel + bias
        for mask in np.float64(masks)
    ]
    loss = authors_loss(*outputs, torch.tensor(y), torch.tensor(~valid), alpha)
    loss.backward()
    before = np.float64(model.trainable_weights[0])
    logs = model.train_on_batch(x, y, return_dict=True)
    np.testing.assert_allclose(2 * logs["loss"], loss.item(), rtol=1e-5)
    step = before - np.float64(model.trainable_weights[0])
    np.testing.assert_allclose(
        2 * step, kernel.grad.numpy(), rtol=1e-4, atol=1e-6
    )
