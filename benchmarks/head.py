"""Loss and gradients of a vocabulary head, as others compute them."""

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
    """What goes into a head, and how.

    Attributes:
        tokens: How many, of one pass.
        vocabulary: How many words.
        width: The size of a hidden state.
        chunk_size: How many tokens the chunked arm takes at a time.
        alpha: The weight of the consistency.
        label_smoothing: That of the crossentropy.
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
        # As if by dropout: mostly the same.
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
    """Returns the arms that there are; PyTorch has no XLA."""
    if has_torch() and not jit_compile:
        return list(ARMS)
    return [arm for arm in ARMS if arm != TORCH]


def step_of(head: Head, arm: str, jit_compile: bool) -> Step:
    """Returns what computes loss and gradients of hidden states and weights.

    It returns the loss when all is done.
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
        # As `fit` tells the losses.
        with xla.compiling(jit_compile):
            loss, gradients = step(*tensors)
        # The values of one number each: all has been computed by then.
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
