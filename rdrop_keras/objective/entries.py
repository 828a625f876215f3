"""The losses of a compiled model, each with its arguments in every pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras.divergences.for_loss import ignored_class
from rdrop_keras.objective.by_output import check_names
from rdrop_keras.objective.by_output import check_same_for_all
from rdrop_keras.objective.counted_items import check_ignored
from rdrop_keras.rdrop import RDrop


def loss_entries(
    compiled_loss: Any,
    settings: RDrop,
    y: Any,
    outputs: Sequence[Any],
    sample_weight: Any,
) -> list[tuple[_keras.LossEntry, ...]]:
    """Returns a group of entries for each compiled loss, one for each pass.

    Args:
        compiled_loss: The object made by `compile(loss=...)`, or None. With
            None there is one group for each output, without a loss.
        settings: The compiled settings, which are checked against the outputs
            that have a loss.
        y: The targets, of any structure.
        outputs: The outputs of each pass, of any structure.
        sample_weight: The sample weights, as passed to `fit`.
    """
    for other in outputs[1:]:
        keras.tree.assert_same_structure(outputs[0], other)
    if compiled_loss is None:
        check_same_for_all(settings)
        check_ignored(settings, [])
        return _without_loss(outputs, sample_weight)
    # A custom `compute_loss` may never call the compiled loss.
    build_loss(compiled_loss, y, outputs[0])
    passes = [
        _keras.loss_entries(compiled_loss, y, output, sample_weight)
        for output in outputs
    ]
    check_names(settings, [entry.name for entry in passes[0]])
    check_ignored(settings, [ignored_class(entry.loss) for entry in passes[0]])
    return list(zip(*passes))


def build_loss(compiled_loss: Any, y: Any, output: Any) -> None:
    """Builds a compiled loss that has not been called yet.

    Args:
        compiled_loss: The object made by `compile(loss=...)`.
        y: The targets.
        output: The outputs of one pass.
    """
    if compiled_loss.built:
        return
    # The call only builds it: the scope discards the updates of its metrics.
    # Keras would multiply the sample weights by masks in place on PyTorch.
    with keras.StatelessScope():
        compiled_loss(y, output)


def _without_loss(outputs, sample_weight):
    flat = [keras.tree.flatten(output) for output in outputs]
    weights = [sample_weight] * len(flat[0])
    if keras.tree.is_nested(sample_weight):
        keras.tree.assert_same_structure(outputs[0], sample_weight)
        weights = keras.tree.flatten(sample_weight)
    return [
        tuple(
            _keras.LossEntry(None, "output", None, None, leaf, weight)
            for leaf in leaves
        )
        for *leaves, weight in zip(*flat, weights)
    ]
