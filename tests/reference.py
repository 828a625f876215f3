"""The R-Drop objective once more: NumPy, float64, every pair spelled out.

Nothing here is shared with the library, nor written the way it is.
"""

import itertools

import numpy as np


def softmax(z, axis=-1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(z):
    return 1.0 / (1.0 + np.exp(-z))


def categorical_kl(p, q, axis=-1):
    terms = np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(q)), 0)
    return terms.sum(axis=axis)


def bernoulli_kl(p, q):
    terms = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return terms.mean(axis=-1)


def squared_error(a, b):
    return ((a - b) ** 2).mean(axis=-1)


DISTANCES = {
    "categorical": categorical_kl,
    "bernoulli": bernoulli_kl,
    "squared_error": squared_error,
}
ACTIVATIONS = {
    "categorical": softmax,
    "bernoulli": sigmoid,
    "squared_error": lambda z: z,
}


def pairwise(kind, outputs):
    """Mean of D(o_i || o_j) over all ordered pairs of distinct passes."""
    pairs = itertools.permutations(outputs, 2)
    values = [DISTANCES[kind](a, b) for a, b in pairs]
    return np.mean(values, axis=0)


def task_loss(kind, y, output, label_smoothing=0.0):
    """Per-item task loss from an output that is a distribution or a value."""
    if kind == "categorical":
        classes = output.shape[-1]
        target = np.eye(classes)[y]
        target = target * (1 - label_smoothing) + label_smoothing / classes
        return -(target * np.log(output)).sum(-1)
    if kind == "bernoulli":
        terms = y * np.log(output) + (1 - y) * np.log(1 - output)
        return -terms.mean(-1)
    return ((y - output) ** 2).mean(-1)


def reduce(values, weights=None, mask=None):
    """`sum_over_batch_size` with a mask: the sum over valid items only,
    divided by their number; weights scale items, not the divisor."""
    weights = np.ones_like(values) if weights is None else weights
    weights = np.asarray(weights, "float64")
    while weights.ndim < values.ndim:
        weights = weights[..., None]
    valid = np.ones_like(values) if mask is None else mask.astype("float64")
    if valid.sum() == 0:
        return 0.0
    return (values * weights * valid).sum() / valid.sum()


def objective(
    kind, y, raw_outputs, alpha, weights=None, mask=None, label_smoothing=0.0
):
    """Returns loss, task loss and consistency from logits or values."""
    outputs = [ACTIVATIONS[kind](np.float64(o)) for o in raw_outputs]
    tasks = [
        reduce(task_loss(kind, y, o, label_smoothing), weights, mask)
        for o in outputs
    ]
    consistency = reduce(pairwise(kind, outputs), weights, mask)
    passes = len(outputs)
    loss = (sum(tasks) + alpha * consistency) / passes
    return loss, np.mean(tasks), consistency


def gradient(function, x, step=1e-6):
    """Central differences in float64."""
    x = np.array(x, "float64")
    result = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        old = x[index]
        x[index] = old + step
        above = function(x)
        x[index] = old - step
        below = function(x)
        x[index] = old
        result[index] = (above - below) / (2 * step)
    return result
