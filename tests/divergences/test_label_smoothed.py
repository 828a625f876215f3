"""Label smoothing from class ids against fairseq's formula and PyTorch."""

import autodiff
import keras
import numpy as np
import pytest
import reference
from scripted import ScriptedDropout
from scripted import random_masks

from rdrop_keras import RDropModel
from rdrop_keras.losses import LabelSmoothedCrossentropy

CLASSES = 7


def fairseq(y, logits, epsilon):
    """`label_smoothed_nll_loss` of fairseq, in NumPy."""
    log_probabilities = np.log(reference.softmax(np.float64(logits)))
    nll = -np.take_along_axis(log_probabilities, y[..., None], -1)[..., 0]
    smooth = -log_probabilities.sum(-1)
    share = epsilon / (logits.shape[-1] - 1)
    return (1.0 - epsilon - share) * nll + share * smooth


@pytest.fixture
def batch(rng):
    logits = rng.normal(size=(4, 5, CLASSES)).astype("float32") * 3
    return rng.integers(0, CLASSES, (4, 5)), logits


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("column", [False, True])
def test_equals_fairseq(epsilon, column, batch):
    y, logits = batch
    loss = LabelSmoothedCrossentropy(epsilon, reduction=None)
    values = loss(y[..., None] if column else y, logits)
    np.testing.assert_allclose(values, fairseq(y, logits, epsilon), rtol=1e-5)


def test_equals_keras_and_pytorch_by_the_stated_factor(batch):
    y, logits = batch
    ours = LabelSmoothedCrossentropy(0.3 * (CLASSES - 1) / CLASSES)(y, logits)
    theirs = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=0.3
    )(np.eye(CLASSES)[y], logits)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    torch = pytest.importorskip("torch")
    value = torch.nn.functional.cross_entropy(
        torch.tensor(logits).reshape(-1, CLASSES),
        torch.tensor(y).reshape(-1),
        label_smoothing=0.3,
    )
    np.testing.assert_allclose(ours, value.item(), rtol=1e-5)


def test_gradient(batch):
    y, logits = batch
    loss = LabelSmoothedCrossentropy(0.1)
    (found,) = autodiff.gradients(lambda z: loss(y, z), logits)
    target = np.full((*y.shape, CLASSES), 0.1 / (CLASSES - 1))
    np.put_along_axis(target, y[..., None], 0.9, -1)
    expected = (reference.softmax(np.float64(logits)) - target) / y.size
    np.testing.assert_allclose(found, expected, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("ignored", [-1, 0, CLASSES + 3])
def test_ignored_class_counts_nowhere(ignored, batch):
    y, logits = batch
    y = np.where(np.arange(20).reshape(4, 5) % 3 == 0, ignored, y)
    counted = y != ignored
    values = fairseq(np.where(counted, y, 0), logits, 0.1)
    loss = LabelSmoothedCrossentropy(0.1, ignore_class=ignored)
    np.testing.assert_allclose(
        loss(y, logits), values[counted].mean(), rtol=1e-5
    )


def test_beside_rdrop(rng):
    """Smoothing touches the task loss alone; KL is inferred, from logits."""
    x = rng.normal(size=(6, 4)).astype("float32")
    y = rng.integers(0, 3, 6)
    y[2] = -1
    masks = random_masks(rng, 2, 6, 4)
    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(3)(ScriptedDropout(masks)(inputs))
    model = RDropModel(inputs, outputs)
    kernel, bias = (np.float64(w) for w in model.trainable_weights)
    model.compile(
        "sgd", LabelSmoothedCrossentropy(0.2, ignore_class=-1), rdrop=2.0
    )
    logs = model.train_on_batch(x, y, return_dict=True)
    raw = [(np.float64(x) * mask) @ kernel + bias for mask in masks]
    counted = y != -1
    tasks = [fairseq(np.maximum(y, 0), z, 0.2)[counted].mean() for z in raw]
    consistency = reference.pairwise(
        "categorical", [reference.softmax(z) for z in raw]
    )[counted].mean()
    np.testing.assert_allclose(logs["task_loss"], np.mean(tasks), rtol=1e-5)
    np.testing.assert_allclose(logs["consistency_loss"], consistency, rtol=1e-5)


def test_half_precision_logits_are_computed_in_single(batch):
    y, logits = batch
    half = (logits * 10).astype("float16")
    values = LabelSmoothedCrossentropy(0.1, reduction=None)(y, half)
    assert keras.backend.standardize_dtype(values.dtype) == "float32"
    expected = fairseq(y, half.astype("float32"), 0.1)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def test_config_round_trip_and_bad_values():
    loss = LabelSmoothedCrossentropy(0.2, ignore_class=3, reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    for value in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="Expected `label_smoothing`"):
            LabelSmoothedCrossentropy(value)
