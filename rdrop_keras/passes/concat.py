"""Passes as one call of the model on the repeated batch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.passes.calls import State
from rdrop_keras.passes.way import Batch
from rdrop_keras.passes.way import Way

ops = keras.ops


def run_concat(model: keras.Model, x: Any, num_passes: int) -> Iterator[Any]:
    """Yields the output of each pass, computed by one call on `[x; ...; x]`.

    This is the paper's Algorithm 1: the graph is traced and compiled once, and
    its kernels are fewer and larger. Every row draws its own dropout mask, so
    that the repetitions are different sub-models. The masks, and the logits of
    softmax and sigmoid, that Keras attached to the outputs are split and
    attached to the parts.

    Batch normalization sees the repeated batch and updates its statistics
    once. `add_loss` is called once: a sum over rows includes all repetitions.

    Args:
        model: A model whose `call` takes `training`.
        x: A batch of inputs, of any structure of dense tensors.
        num_passes: The number of repetitions of the batch.

    Raises:
        ValueError: If an input is not a dense tensor, or an output does not
            have the batch as its first axis.
    """
    _check_inputs(x)
    repeated = keras.tree.map_structure(
        lambda leaf: _repeat(leaf, num_passes), x
    )
    outputs = model(repeated, training=True)
    for leaf in keras.tree.flatten(outputs):
        _check_batch_axis(leaf, repeated)
    parts = [_split(leaf, num_passes) for leaf in keras.tree.flatten(outputs)]
    for leaves in zip(*parts):
        yield keras.tree.pack_sequence_as(outputs, leaves)


def _check_inputs(x: Any) -> None:
    leaves = [leaf for leaf in keras.tree.flatten(x) if leaf is not None]
    for leaf in leaves:
        # Ragged and sparse tensors, of any backend.
        if hasattr(leaf, "row_splits") or hasattr(leaf, "dense_shape"):
            raise ValueError(_NOT_DENSE.format(type(leaf).__name__))
        if not len(leaf.shape):
            raise ValueError(_NOT_DENSE.format("a scalar"))


def _repeat(leaf: Any, num_passes: int) -> Any:
    if leaf is None:
        return None
    repeated = ops.concatenate([leaf] * num_passes, axis=0)
    mask = _keras.mask_of(leaf)
    if mask is not None:
        _keras.carry_mask(repeated, ops.concatenate([mask] * num_passes))
    return repeated


def _split(leaf: Any, num_passes: int) -> list[Any]:
    # The gradient of a split is one concatenation. That of each slice would be
    # a tensor of the full size, padded with zeros.
    parts = ops.split(leaf, num_passes)
    mask = _keras.mask_of(leaf)
    if mask is not None:
        for part, its_mask in zip(parts, ops.split(mask, num_passes)):
            _keras.carry_mask(part, its_mask)
    logits = _keras.computed_logits(leaf)
    if logits is not None:
        for part, its_logits in zip(parts, ops.split(logits, num_passes)):
            _keras.carry_logits(part, its_logits)
    return parts


def _check_batch_axis(leaf: Any, repeated: Any) -> None:
    first = next(t for t in keras.tree.flatten(repeated) if t is not None)
    shape = tuple(getattr(leaf, "shape", ()))
    if not shape or (
        None not in (shape[0], first.shape[0]) and shape[0] != first.shape[0]
    ):
        raise ValueError(
            "Expected every output to have the batch as its first axis, to be "
            f"cut into passes. Received: an output of shape {shape} for a "
            f"repeated batch of {first.shape[0]} rows. Compile with "
            "`rdrop=RDrop(..., passes='calls')`."
        )


_NOT_DENSE = (
    "Expected every input to be a dense tensor with the batch as its first "
    "axis, to be repeated. Received: {}. Compile with "
    "`rdrop=RDrop(..., passes='calls')`."
)


def _run(batch: Batch) -> list[Any]:
    num_passes = batch.settings.num_passes
    restored = State(batch.model, batch.state())
    results = []
    outputs = run_concat(batch.model, batch.x, num_passes)
    for index, output in enumerate(outputs):
        results.append(batch.finish(output))
        restored.end_pass(index, last=index == num_passes - 1)
    return results


WAY = Way(
    "concat",
    # Faster by a few percent for large vocabularies, but batch normalization
    # would see the repeated batch.
    fits=lambda model, observation: False,
    describe=lambda model, observation: "one call on the repeated batch",
    run=_run,
)
