"""Alternative implementations of the objective of two passes.

Each returns 1/2 (CE_1 + CE_2) + alpha/4 (KL_12 + KL_21), averaged over items,
which is the objective of `fit` here, so that all results are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.losses import LabelSmoothedCrossentropy
from rdrop_keras.losses import categorical_consistency


def crossentropy(label_smoothing: float = 0.0) -> keras.losses.Loss:
    """Returns the task loss of class ids and logits."""
    if label_smoothing:
        return LabelSmoothedCrossentropy(label_smoothing)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def naive(
    y: Any, logits: Sequence[Any], alpha: float, label_smoothing: float = 0.0
) -> Any:
    """The usual Keras implementation: `kl_divergence` of probabilities."""
    p, q = (keras.ops.softmax(z) for z in logits)
    divergence = keras.losses.kl_divergence
    values = (divergence(p, q) + divergence(q, p)) / 2
    return _together(y, logits, values, alpha, label_smoothing)


def log_space(
    y: Any, logits: Sequence[Any], alpha: float, label_smoothing: float = 0.0
) -> Any:
    """Keras's crossentropy and this library's consistency, apart."""
    values = categorical_consistency(logits, from_logits=True)
    return _together(y, logits, values, alpha, label_smoothing)


def authors(
    y: Any, logits: Sequence[Any], alpha: float, label_smoothing: float = 0.0
) -> Any:
    """The authors' formula in TensorFlow, equal to PyTorch's `kl_div`."""
    import tensorflow as tf

    def kl_div(log_input, target):
        log_target = tf.math.log(tf.where(target > 0, target, 1.0))
        return tf.reduce_sum(target * (log_target - log_input), axis=-1)

    p, q = logits
    p_loss = kl_div(tf.nn.log_softmax(p), tf.nn.softmax(q))
    q_loss = kl_div(tf.nn.log_softmax(q), tf.nn.softmax(p))
    values = (p_loss + q_loss) / 2
    return _together(y, logits, values, alpha, label_smoothing)


def _together(y, logits, consistency, alpha, label_smoothing):
    loss = crossentropy(label_smoothing)
    task = sum(loss(y, z) for z in logits) / 2
    return task + alpha / 2 * keras.ops.mean(consistency)


def torch_authors() -> Callable[..., Any]:
    """Returns the authors' formula in PyTorch, their `compute_kl_loss`."""
    import torch.nn.functional as F

    def objective(y, logits, alpha, label_smoothing=0.0):
        classes = logits[0].shape[-1]
        p, q = (z.reshape(-1, classes) for z in logits)
        # The authors use fairseq's label smoothing, which distributes the
        # smoothed mass over the other classes only.
        smoothing = label_smoothing * classes / (classes - 1)
        task = sum(
            F.cross_entropy(z, y.flatten(), label_smoothing=smoothing)
            for z in (p, q)
        )
        p_loss = F.kl_div(
            F.log_softmax(p, dim=-1), F.softmax(q, dim=-1), reduction="none"
        )
        q_loss = F.kl_div(
            F.log_softmax(q, dim=-1), F.softmax(p, dim=-1), reduction="none"
        )
        divergence = (p_loss.sum() + q_loss.sum()) / 2 / p.shape[0]
        return task / 2 + alpha / 2 * divergence

    return objective
