"""Crossentropy and divergence of passes, and their gradients, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

ops = keras.ops


class Pairs(NamedTuple):
    """The differences between passes, for the divergence and its gradient.

    Attributes:
        gaps: Of each pass, `s (p_i - mean p)`.
        log_gaps: Of each pass, `s (log p_i - mean log p)`.
        signs: Of each pass, the number `1 / s`.
    """

    gaps: Sequence[Any]
    log_gaps: Sequence[Any]
    signs: Sequence[float]

    def value(self) -> Any:
        """Returns the mean of `KL(p_i || p_j)` over all ordered pairs."""
        if len(self.signs) == 2:
            return 0.5 * ops.sum(self.gaps[0] * self.log_gaps[0], axis=-1)
        total = sum(
            ops.sum(gap * log_gap, axis=-1)
            for gap, log_gap in zip(self.gaps, self.log_gaps)
        )
        return total / (len(self.signs) - 1)


def compare(
    probabilities: Sequence[Any],
    log_probabilities: Sequence[Any],
    infinite: bool = True,
) -> Pairs:
    """Returns how each pass differs from the mean of all.

    Linear in the number of passes. Two of them differ from their mean by half
    of one gap, which is then computed once.

    Args:
        probabilities: Of each pass, `(..., classes)`.
        log_probabilities: Their logarithms.
        infinite: Whether logarithms may be `-inf`. A class that has none in
            every pass does not differ.
    """
    first, second, *others = log_probabilities
    equal = None
    if infinite:
        equal = first == second
        for other in others:
            equal = ops.logical_and(equal, first == other)

    def differences(tensors, equal=None):
        if not others:
            found = [tensors[0] - tensors[1]]
        else:
            mean = sum(tensors) / len(tensors)
            found = [tensor - mean for tensor in tensors]
        if equal is not None:
            found = [ops.where(equal, 0.0, gap) for gap in found]
        return found if others else found * 2

    signs = [1.0] * len(probabilities) if others else [0.5, -0.5]
    return Pairs(
        differences(probabilities),
        differences(log_probabilities, equal),
        signs,
    )


def gradients(
    probabilities: Sequence[Any],
    pairs: Pairs,
    of_task: Sequence[Any],
    of_pairs: Any,
    target: Any,
    label_smoothing: float,
    dense: bool = False,
    stop_gradient: bool = False,
) -> list[Any]:
    """Returns the gradient by the logits of each pass.

    With `d_i = p_i - mean p` and `u_i = log p_i - mean log p` the divergence
    is `C = sum_i <d_i, u_i> / (m - 1)`, and as `u_i` and `d_i` move with the
    logits `z_i` by the derivative of the softmax, that of C by `z_i` is
    `(p_i (u_i - <p_i, u_i>) + d_i) / (m - 1)`.

    Args:
        probabilities: Of each pass, `(..., classes)`.
        pairs: What `compare` returned.
        of_task: The derivative by the crossentropy of each pass, `(..., 1)`.
        of_pairs: The derivative by `pairs.value()`, `(..., 1)`.
        target: Class ids `(...)`, or distributions `(..., classes)`.
        label_smoothing: See `crossentropy`.
        dense: Whether the target is distributions.
        stop_gradient: Whether the first argument of every KL term is
            constant, which leaves `d_i / (m - 1)`.
    """
    classes = probabilities[0].shape[-1]
    share = label_smoothing / (classes - 1)
    # What a distribution adds up to need not be 1; an id stands for 1.
    mass = 1.0
    if dense:
        mass = ops.sum(target, axis=-1, keepdims=True)
        mass = (1 - label_smoothing - share) * mass + share * classes
    else:
        target = ops.one_hot(target, classes, dtype=probabilities[0].dtype)
    of_pairs = of_pairs / (len(probabilities) - 1)
    results = []
    for p, of_one, gap, log_gap, sign in zip(probabilities, of_task, *pairs):
        scale = sign * of_pairs
        slope = mass * of_one
        wanted = (of_one * (1 - label_smoothing - share)) * target
        if label_smoothing:
            wanted = wanted + of_one * share
        if not stop_gradient:
            log_gap = scale * log_gap
            mean = ops.sum(p * log_gap, axis=-1, keepdims=True)
            slope = log_gap + (slope - mean)
        results.append(p * slope + (scale * gap - wanted))
    return results


def crossentropy(
    log_probabilities: Any,
    target: Any,
    label_smoothing: float = 0.0,
    dense: bool = False,
) -> Any:
    """Returns the crossentropy of every item, `(...)`.

    Args:
        log_probabilities: Of one pass, `(..., classes)`.
        target: Class ids `(...)`, or distributions `(..., classes)`.
        label_smoothing: The part of the probability that all classes but the
            label share.
        dense: Whether the target is distributions.
    """
    if dense:
        # A class without a part in the target may have a logarithm of -inf.
        terms = ops.where(target == 0, 0.0, target * log_probabilities)
        value = -ops.sum(terms, axis=-1)
    else:
        found = ops.take_along_axis(
            log_probabilities, ops.expand_dims(target, -1), axis=-1
        )
        value = -ops.squeeze(found, axis=-1)
    if not label_smoothing:
        return value
    share = label_smoothing / (log_probabilities.shape[-1] - 1)
    rest = ops.sum(log_probabilities, axis=-1)
    return (1 - label_smoothing - share) * value - share * rest


def once_only(results: Sequence[Any], sources: Sequence[Any]) -> list[Any]:
    """Returns gradients whose own gradient is an error, not silently zero."""

    @ops.custom_gradient
    def constant(*tensors):
        def refuse(*upstream):
            raise NotImplementedError(
                "Expected one gradient of a fused R-Drop loss. Received a "
                "request for the gradient of its gradient, which is not "
                "written out. For second derivatives train a model with "
                "`rdrop=RDrop(..., fused=False)`, or use `keras.losses` with "
                "`rdrop_keras.losses.rdrop_loss`."
            )

        values = [ops.stop_gradient(t) for t in tensors[: len(results)]]
        return tuple(values), refuse

    return list(constant(*results, *sources))
