"""Loss and gradients of a vocabulary head, in several implementations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from benchmarks import objectives
from benchmarks.harness import has_torch
from rdrop_keras.closed_form import xla
from rdrop_keras.losses import fused_rdrop_loss
from rdrop_keras.losses import vocabulary_rdrop_loss

CHUNKED = "chunked"
FUSED = "closed form"
TORCH = "PyTorch, authors"
OBJECTIVES = {
    "log space": objectives.log_space,
    "naive Keras": objectives.naive,
    "TensorFlow, authors": objectives.authors,
}
ARMS = (CHUNKED, FUSED, *OBJECTIVES, TORCH)
SCALE = 0.05  # Of the kernel, so that logits are of size 1.

Step = Callable[[], float]


@dataclasses.dataclass(frozen=True)
class Head:
    """The sizes and settings of a head.

    Attributes:
        tokens: The number of tokens of one pass.
        vocabulary: The number of words.
        width: The size of a hidden state.
        chunk_size: The number of tokens per chunk in the chunked arm.
        alpha: The weight of the consistency.
        label_smoothing: The label smoothing of the crossentropy.
    """

    tokens: int
    vocabulary: int
    width: int
    chunk_size: int | str = "auto"
    alpha: float = 5.0
    label_smoothing: float = 0.0

    def draw(self) -> tuple[np.ndarray, ...]:
        """Returns labels, hidden states of two passes, kernel and bias."""
        random = np.random.default_rng(0)
        shape = (self.tokens, self.width)
        one = random.standard_normal(shape, "float32")
        # Two passes with dropout have similar hidden states.
        other = one + np.float32(0.3) * random.standard_normal(shape, "float32")
        shape = (self.width, self.vocabulary)
        kernel = random.standard_normal(shape, "float32") * np.float32(SCALE)
        labels = random.integers(0, self.vocabulary, self.tokens)
        return labels, one, other, kernel, np.zeros(self.vocabulary, "float32")

    def __str__(self) -> str:
        return (
            f"2 x {self.tokens:,} tokens, {self.vocabulary:,} words, width "
            f"{self.width}"
        )


def available_arms(jit_compile: bool) -> list[str]:
    """Returns the available arms. PyTorch's arms run without XLA only."""
    if has_torch() and not jit_compile:
        return list(ARMS)
    return [arm for arm in ARMS if arm != TORCH]


def step_of(head: Head, arm: str, jit_compile: bool) -> Step:
    """Returns a function that computes the loss and all gradients.

    It returns the loss after all gradients are computed.
    """
    if arm == TORCH:
        return _torch_step(head)
    tensors = [tf.constant(array) for array in head.draw()]

    @tf.function(jit_compile=jit_compile)
    def step(labels, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = _loss(head, arm, labels, *inputs)
        return loss, tape.gradient(loss, inputs)

    def run():
        # `fit` informs the losses about XLA in the same way.
        with xla.compiling(jit_compile):
            loss, gradients = step(*tensors)
        # Reading one number of each gradient waits for its computation.
        checks = [float(tf.reshape(g, [-1])[0]) for g in gradients]
        assert len(checks) == 4
        return float(loss)

    return run


def _loss(head, arm, labels, one, other, kernel, bias):
    settings = {"label_smoothing": head.label_smoothing}
    if arm == CHUNKED:
        return vocabulary_rdrop_loss(
            labels,
            [one, other],
            kernel,
            bias,
            alpha=head.alpha,
            chunk_size=head.chunk_size,
            **settings,
        ).loss
    logits = [hidden @ kernel + bias for hidden in (one, other)]
    if arm == FUSED:
        return fused_rdrop_loss(labels, logits, head.alpha, **settings).loss
    return OBJECTIVES[arm](labels, logits, head.alpha, **settings)


def _torch_step(head: Head) -> Step:
    import torch

    objective = objectives.torch_authors()
    labels, *arrays = (torch.from_numpy(array) for array in head.draw())
    inputs = [array.requires_grad_() for array in arrays]

    def run():
        for tensor in inputs:
            tensor.grad = None
        one, other, kernel, bias = inputs
        logits = [hidden @ kernel + bias for hidden in (one, other)]
        loss = objective(labels, logits, head.alpha, head.label_smoothing)
        loss.backward()
        return loss.item()

    return run
