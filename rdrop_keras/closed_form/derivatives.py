"""The divergence between passes, and explicit gradients of the objective."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras

from rdrop_keras.closed_form.custom_gradient import custom_gradient
from rdrop_keras.closed_form.softmax import Softmax

ops = keras.ops


class Pairs(NamedTuple):
    """The differences between passes, for the divergence and its gradient.

    Attributes:
        gaps: For each pass, `s (p_i - mean p)`.
        log_gaps: For each pass, `s (log p_i - mean log p)`.
        signs: For each pass, the number `1 / s`.
    """

    gaps: Sequence[Any]
    log_gaps: Sequence[Any]
    signs: Sequence[float]

    def value(self) -> Any:
        """Returns the mean of `KL(p_i || p_j)` over all ordered pairs."""
        if len(self.signs) == 2:
            return 0.5 * self._products(0)
        total = sum(self._products(index) for index in range(len(self.signs)))
        return total / (len(self.signs) - 1)

    def means(self, passes: Sequence[Softmax]) -> list[Any]:
        """Returns the mean of each log gap under its pass's distribution.

        Each mean has the shape `(..., 1)`.

        Args:
            passes: The passes that were compared.
        """
        count = 1 if len(passes) == 2 else len(passes)
        results = [
            ops.sum(each.probabilities * log_gap, axis=-1, keepdims=True)
            for each, log_gap in zip(passes[:count], self.log_gaps)
        ]
        if len(passes) == 2:
            # The second mean is the first minus a sum that the divergence
            # needs anyway.
            gap = ops.expand_dims(self._products(0), -1)
            results.append(results[0] - gap)
        return results

    def scaled(self, factor: Any) -> list[tuple[Any, Any, Any, bool]]:
        """Returns `(factor, gap, log_gap, minus)` for each pass.

        Gap and log gap are multiplied by the factor. Two passes share them, so
        that they are computed once; `minus` says that their sign is reversed.

        Args:
            factor: `(..., 1)`.
        """
        if len(self.signs) > 2:
            return [
                (factor, factor * gap, factor * log_gap, False)
                for gap, log_gap in zip(self.gaps, self.log_gaps)
            ]
        half = 0.5 * factor
        gap, log_gap = half * self.gaps[0], half * self.log_gaps[0]
        return [(half, gap, log_gap, False), (half, gap, log_gap, True)]

    def _products(self, index):
        return ops.sum(self.gaps[index] * self.log_gaps[index], axis=-1)


def compare(
    passes: Sequence[Softmax],
    weighted: Sequence[Any] | None = None,
    infinite: bool = True,
) -> Pairs:
    """Returns the difference of each pass from the mean of all passes.

    The cost is linear in the number of passes. Two passes differ from their
    mean by half of their difference, which is computed once.

    Args:
        passes: Two or more softmaxes, `(..., classes)`.
        weighted: Optional probabilities to use in place of those of the
            passes, such as joint probabilities.
        infinite: Whether logits may be `-inf`. A class with a logit of `-inf`
            in every pass does not differ.
    """
    if weighted is None:
        weighted = [each.probabilities for each in passes]
    if len(passes) == 2:
        first, second = passes
        gap = weighted[0] - weighted[1]
        # Exact gaps sum to 0, so that the normalizers would cancel. Rounded
        # gaps do not, and passes with very different normalizers would lose
        # precision.
        log_gap = (first.logits - second.logits) - (
            first.normalizer - second.normalizer
        )
        if infinite:
            # Cheaper than comparing the logits. A NaN among the logits still
            # shows: it makes all probabilities NaN.
            log_gap = ops.where(ops.isnan(log_gap), 0.0, log_gap)
        return Pairs([gap] * 2, [log_gap] * 2, [0.5, -0.5])
    logs = [each.log_probabilities() for each in passes]
    log_gaps = _from_mean(logs)
    if infinite:
        equal = logs[0] == logs[1]
        for other in logs[2:]:
            equal = ops.logical_and(equal, logs[0] == other)
        log_gaps = [ops.where(equal, 0.0, gap) for gap in log_gaps]
    return Pairs(_from_mean(weighted), log_gaps, [1.0] * len(passes))


def _from_mean(tensors):
    mean = sum(tensors) / len(tensors)
    return [tensor - mean for tensor in tensors]


def gradients(
    passes: Sequence[Softmax],
    pairs: Pairs,
    of_task: Sequence[Any],
    of_pairs: Any,
    target: Any,
    label_smoothing: float,
    dense: bool = False,
    stop_gradient: bool = False,
) -> list[Any]:
    """Returns the gradient with respect to the logits of each pass.

    With `d_i = p_i - mean p` and `u_i = log p_i - mean log p` the divergence
    is `C = sum_i <d_i, u_i> / (m - 1)`. Differentiated through the softmax,
    its gradient with respect to the logits `z_i` is
    `(p_i (u_i - <p_i, u_i>) + d_i) / (m - 1)`.

    Args:
        passes: The passes that were compared, `(..., classes)`.
        pairs: The result of `compare`.
        of_task: The derivative with respect to the crossentropy of each pass,
            `(..., 1)`.
        of_pairs: The derivative with respect to `pairs.value()`, `(..., 1)`.
        target: Class ids `(...)`, or distributions `(..., classes)`.
        label_smoothing: See `Softmax.crossentropy`.
        dense: Whether the targets are distributions.
        stop_gradient: Whether the first argument of every KL term is
            constant, which leaves `d_i / (m - 1)`.
    """
    classes = passes[0].classes
    share = label_smoothing / (classes - 1)
    label = 1 - label_smoothing - share
    # A target distribution need not sum to 1; a class id stands for 1.
    mass = 1.0
    if dense:
        mass = ops.sum(target, axis=-1, keepdims=True)
        mass = label * mass + share * classes
    scaled = pairs.scaled(of_pairs / (len(passes) - 1))
    slopes = [mass * of_one for of_one in of_task]
    if not stop_gradient:
        slopes = [
            (slope + factor * mean) - log_gap
            if minus
            else (slope - factor * mean) + log_gap
            for slope, mean, (factor, _, log_gap, minus) in zip(
                slopes, pairs.means(passes), scaled
            )
        ]
    results = []
    for each, of_one, slope, (_, gap, _, minus) in zip(
        passes, of_task, slopes, scaled
    ):
        found = each.probabilities * slope
        found = found - gap if minus else found + gap
        if label_smoothing:
            found = found - of_one * share
        if dense:
            found = found - (of_one * label) * target
        else:
            found = subtract_at(found, target, of_one * label)
        results.append(found)
    return results


def subtract_at(tensor: Any, ids: Any, amount: Any) -> Any:
    """Subtracts an amount from one class of each item.

    Args:
        tensor: `(..., classes)`.
        ids: The classes, `(...)`.
        amount: `(..., 1)`.
    """
    shape = ops.shape(tensor)
    flat = ops.reshape(tensor, (-1, shape[-1]))
    ids = ops.reshape(ops.cast(ids, "int32"), (-1, 1))
    rows = ops.expand_dims(ops.arange(ops.shape(flat)[0], dtype="int32"), -1)
    amount = ops.broadcast_to(amount, (*shape[:-1], 1))
    values = ops.take_along_axis(flat, ids, axis=-1)
    values = ops.squeeze(values - ops.reshape(amount, (-1, 1)), axis=-1)
    # Updates one number per item; one-hot labels would be as large as `tensor`.
    flat = ops.scatter_update(
        flat, ops.concatenate([rows, ids], axis=-1), values
    )
    return ops.reshape(flat, shape)


def once_only(results: Sequence[Any], sources: Sequence[Any]) -> list[Any]:
    """Returns gradients that raise an error when differentiated again.

    Otherwise their own gradient would silently be 0.
    """

    @custom_gradient
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
