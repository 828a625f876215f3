"""Training steps of a model: plain, this library's, and alternatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks import objectives
from benchmarks.harness import has_torch
from benchmarks.models import Case
from rdrop_keras import RDrop

ALPHA = 5.0
RATE = 1e-3
SEED = 0

PLAIN = "plain"
DOUBLED = "doubled batch"
NAIVE = "naive Keras"
TORCH = "PyTorch, authors"
TORCH_COMPILED = "PyTorch, authors, compiled"
CHUNKS = "auto, chunks"
SHARED = "shared prefix"
RDROP = {
    "auto": RDrop(ALPHA),
    "calls": RDrop(ALPHA, passes="calls"),
    "calls, terms apart": RDrop(ALPHA, passes="calls", fused=False),
    "concat": RDrop(ALPHA, passes="concat"),
    SHARED: RDrop(ALPHA, passes="shared_prefix"),
    CHUNKS: RDrop(ALPHA, vocabulary_chunk="auto"),
}
ARMS = (PLAIN, DOUBLED, NAIVE, *RDROP, TORCH, TORCH_COMPILED)
# These arms make two calls from the same seed, so they have the same dropout
# masks and the same first loss.
ALIKE = (NAIVE, "calls", "calls, terms apart", SHARED)

Step = Callable[[], float]


class Unavailable(Exception):
    """The reason why an arm cannot be measured here."""


def arms_of(case: Case) -> list[str]:
    """Returns the arms that apply to a model."""
    without = set()
    if not case.chunks:
        without.add(CHUNKS)
    if not case.shares:
        without.add(SHARED)
    return [arm for arm in ARMS if arm not in without]


def step_of(case: Case, arm: str, jit_compile: bool) -> Step:
    """Returns a training step, which returns its loss after it has finished.

    The model is built. Only tracing and compilation are left to the first call.

    Raises:
        Unavailable: If the arm cannot be measured here.
    """
    if arm in (TORCH, TORCH_COMPILED):
        return torch_step(case, compiled=arm == TORCH_COMPILED)
    if arm == NAIVE:
        return naive_step(case, jit_compile)
    model = keras_model(case, arm)
    compile_model(model, case, arm, jit_compile)
    model.optimizer.build(model.trainable_variables)
    x, y = batch_of(case, arm)

    def step():
        return float(model.train_on_batch(x, y, return_dict=True)["loss"])

    return step


def keras_model(case: Case, arm: str) -> keras.Model:
    """Returns the uncompiled model of an arm, with the same seed for all arms.

    Raises:
        Unavailable: If the arm shares a prefix and the model has none.
    """
    if arm == SHARED:
        check_shares(case)
    keras.utils.set_random_seed(SEED)
    return case.build() if arm in RDROP else case.plain()


def compile_model(
    model: keras.Model, case: Case, arm: str, jit_compile: bool
) -> None:
    """Compiles the model of an arm."""
    model.compile(
        keras.optimizers.SGD(RATE),
        objectives.crossentropy(case.label_smoothing),
        jit_compile=jit_compile,
        **({"rdrop": RDROP[arm]} if arm in RDROP else {}),
    )


def batch_of(case: Case, arm: str) -> tuple[Any, Any]:
    """Returns inputs and labels as tensors, repeated if the arm needs it."""
    batch = case.x, case.y
    if arm == DOUBLED:
        batch = keras.tree.map_structure(
            lambda x: np.concatenate([x, x]), batch
        )
    return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)


def check_shares(case: Case) -> None:
    """Checks that two passes can share a prefix of a model.

    Raises:
        Unavailable: If they cannot.
    """
    model = case.build()
    compile_model(model, case, SHARED, jit_compile=False)
    try:
        model.compute_rdrop_loss(case.x, case.y)
    except ValueError as error:
        raise Unavailable(str(error).partition(". ")[0]) from error


def naive_step(case: Case, jit_compile: bool) -> Step:
    """Returns the custom training step of most tutorials."""
    import tensorflow as tf

    model = keras_model(case, NAIVE)
    optimizer = keras.optimizers.SGD(RATE)
    optimizer.build(model.trainable_variables)
    x, y = batch_of(case, NAIVE)

    @tf.function(jit_compile=jit_compile)
    def step():
        with tf.GradientTape() as tape:
            logits = [model(x, training=True) for _ in range(2)]
            loss = objectives.naive(y, logits, ALPHA, case.label_smoothing)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return lambda: float(step())


def torch_step(case: Case, compiled: bool) -> Step:
    """Returns a step of the authors' formula, with the same initial weights.

    Args:
        case: The model.
        compiled: Whether `torch.compile` compiles passes and loss.
    """
    if not has_torch():
        raise Unavailable("PyTorch is not installed")
    import torch

    module = case.twin(keras_model(case, TORCH).get_weights()).train()
    objective = objectives.torch_authors()
    optimizer = torch.optim.SGD(
        [p for p in module.parameters() if p.requires_grad], lr=RATE
    )
    x, y = torch_tensors(case.x), torch.from_numpy(case.y).long()

    def loss_of(x, y):
        logits = two_passes(module, x, case.one_call)
        return objective(y, logits, ALPHA, case.label_smoothing)

    function = torch.compile(loss_of) if compiled else loss_of

    def step():
        optimizer.zero_grad()
        loss = function(x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    if compiled:
        try:
            step()
        except Exception as error:
            # Any failure counts: a missing compiler or an incompatible one.
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise Unavailable(f"torch.compile: {reason}") from error
    return step


def two_passes(function: Callable[[Any], Any], x: Any, one_call: bool) -> Any:
    """Returns the outputs of two passes in PyTorch.

    Args:
        function: The module, or a part of it.
        x: The inputs, as tensors.
        one_call: Whether to run both passes in one call.
    """
    if not one_call:
        return function(x), function(x)
    import torch

    both = keras.tree.map_structure(lambda leaf: torch.cat([leaf, leaf]), x)
    return function(both).chunk(2)


def torch_tensors(x: Any) -> Any:
    """Returns inputs as PyTorch tensors, images with channels first."""
    import torch

    def convert(array: np.ndarray):
        tensor = torch.from_numpy(array)
        if tensor.ndim == 4:
            # This permutes strides only. PyTorch is fastest with the memory
            # layout channels last.
            return tensor.permute(0, 3, 1, 2)
        return tensor if tensor.is_floating_point() else tensor.long()

    return keras.tree.map_structure(convert, x)
