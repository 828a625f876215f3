"""The checks on the first batch, before the first training step."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any
from typing import NamedTuple

import keras
import numpy as np

from rdrop_keras import _keras
from rdrop_keras.divergences.base import looks_like_probabilities
from rdrop_keras.divergences.for_loss import is_known
from rdrop_keras.objective.entries import loss_entries
from rdrop_keras.objective.one_output import Comparison
from rdrop_keras.objective.result import Objective
from rdrop_keras.passes.dropout import explain_identical_passes
from rdrop_keras.passes.observation import Recording
from rdrop_keras.training import checks
from rdrop_keras.training.step import compute_objective
from rdrop_keras.training.step import observed


class Look(NamedTuple):
    """The result of the checks on a batch.

    Attributes:
        decided: False if no item of the batch counts, so that the next batch
            has to be checked too.
        outputs: The names of the outputs that are compared, if several.
    """

    decided: bool
    outputs: tuple[str, ...]


def look(model: Any, data: Any) -> Look:
    """Runs and checks the passes on one batch without changing the model.

    Runs eagerly, before Keras's training function sees the batch.

    Args:
        model: A compiled `RDropMixin` model.
        data: A batch, in the form that `fit` passes to `train_step`.

    Raises:
        ValueError: If the passes are identical, or outputs that are read as
            probabilities are not probabilities.
    """
    data = keras.tree.map_structure(_to_tensor, data)
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    observation = observed(model, x, y, sample_weight)
    objective, y_pred = _passes(model, x, y, sample_weight)
    compared = objective.consistency.compared
    for comparison in compared:
        _check_probabilities(comparison)
    _warn_of_padding(model, y, y_pred, sample_weight)
    same = [s for s in map(_same, compared) if s is not None]
    if compared and same and all(same):
        draws = observation.draws or observation.counters
        if not (draws and _differ_later(model, x, y, sample_weight)):
            # Identical passes show that no random numbers come from counters.
            model._rdrop_observation = dataclasses.replace(
                observation, counters=()
            )
            if model.rdrop.check_dropout:
                raise ValueError(explain_identical_passes(model))
    outputs = tuple(objective.consistency.by_output)
    return Look(bool(same) or not compared, outputs)


def _to_tensor(value: Any) -> Any:
    """Converts numbers to what a compiled step would see."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return keras.ops.convert_to_tensor(value)
    return value


def _passes(
    model: Any, x: Any, y: Any, sample_weight: Any, changed: Any = ()
) -> tuple[Objective, Any]:
    recording = Recording(model)
    with recording:
        for variable, value in changed:
            variable.assign(value)
        return compute_objective(model, x, y, sample_weight)


def _differ_later(model: Any, x: Any, y: Any, sample_weight: Any) -> bool:
    """Returns whether the passes differ if all-zero weights become random.

    A head, branch or adapter that starts at zero hides the dropout before it
    until the first update.
    """
    generator = np.random.default_rng(0)
    changed = []
    for variable in model.trainable_variables:
        value = keras.ops.convert_to_numpy(variable)
        if not np.any(value):
            value = generator.normal(size=value.shape).astype(value.dtype)
            changed.append((variable, value))
    if not changed:
        return False
    objective, _ = _passes(model, x, y, sample_weight, changed)
    return not all(_same(c) for c in objective.consistency.compared)


def _same(comparison: Comparison) -> bool | None:
    """Returns whether all passes gave the same output; None if no item counts.

    A divergence of zero would not be enough: two saturated outputs that differ
    may have it too.
    """
    first, *others = (
        keras.ops.convert_to_numpy(keras.ops.cast(o, "float32"))
        for o in comparison.outputs
    )
    counted = np.ones(first.shape, bool)
    if comparison.mask is not None:
        mask = keras.ops.convert_to_numpy(comparison.mask)
        mask = mask.reshape(mask.shape + (1,) * (first.ndim - mask.ndim))
        counted = counted & mask
    if not counted.any():
        return None
    return all(
        np.array_equal(first[counted], other[counted]) for other in others
    )


def _check_probabilities(comparison: Comparison) -> None:
    if not looks_like_probabilities(
        comparison.divergence, comparison.outputs, comparison.mask
    ):
        raise ValueError(
            f"Expected output '{comparison.name}' to be probabilities, since "
            "its loss says `from_logits=False`, Keras's default. Received "
            "values outside of 0 to 1, or that do not add up to 1, in the "
            "first batch. If the output is logits, compile the loss with "
            "`from_logits=True`; for a loss that is a function of your own, "
            "say it by `RDrop(..., divergence=rdrop_keras.losses."
            f"{type(comparison.divergence).__name__}(from_logits=True))`. If "
            "not, add a softmax or sigmoid. The weights are as they were "
            "before the step."
        )


def _warn_of_padding(model: Any, y: Any, y_pred: Any, weights: Any) -> None:
    """Warns if the loss is likely to mask padding that the consistency counts.

    R-Drop cannot see a mask inside of a user's own loss, so the consistency
    would count padding that the loss does not.
    """
    compiled_loss = _keras.compiled_loss(model)
    if weights is not None or model.rdrop.vocabulary_chunk is not None:
        return
    own_loss = not checks.is_from_keras(model.compute_loss)
    if compiled_loss is None:
        pairs = [(None, y, y_pred)]
    else:
        (entries,) = zip(
            *loss_entries(compiled_loss, model.rdrop, y, [y_pred], None)
        )
        pairs = [(e.loss, e.y_true, e.y_pred) for e in entries]
    for loss, target, output in pairs:
        if keras.tree.is_nested(output) or keras.tree.is_nested(target):
            continue
        custom = own_loss or loss is None or not is_known(loss)
        if (
            custom
            and target is not None
            and len(output.shape) > 2
            and _keras.mask_of(output) is None
            and _ends_in_padding(target, len(output.shape))
        ):
            warnings.warn(_PADDING)
            return


def _ends_in_padding(target: Any, rank: int) -> bool:
    """Returns whether labels look like class ids with trailing padding.

    They do if their smallest value, 0 or less, occurs only at the ends of rows.

    Args:
        target: The labels.
        rank: The rank of the output.
    """
    target = keras.ops.convert_to_numpy(target)
    if target.ndim == rank and target.shape[-1] == 1:
        target = target[..., 0]
    if target.ndim != rank - 1 or not np.array_equal(target, np.rint(target)):
        return False
    padding = target == min(target.min(initial=0), 0)
    trailing = np.logical_and.accumulate(padding[..., ::-1], axis=-1)
    return bool(padding.any()) and trailing.sum() == padding.sum()


_PADDING = (
    "The labels look padded, the output carries no Keras mask, and the loss "
    "is a function of your own. If that function leaves padding out, the "
    "consistency of R-Drop still counts it: a mask inside of a loss cannot be "
    "seen. Let the output keep its mask (`mask_zero=True`, and no deletion of "
    "`_keras_mask`), pass sample weights of 0 for padding, or use "
    "`keras.losses.SparseCategoricalCrossentropy(ignore_class=...)`. See "
    "docs/troubleshooting.md."
)
