"""Results that later passes take from the first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from rdrop_keras import _keras
from rdrop_keras._context import ForModel

# The `Once` that `compute_once` uses while a model is called.
once = ForModel("rdrop_keras_once")


class Once:
    """Results of the first pass, which the other passes reuse.

    An object serves one training step. In the first pass it keeps the results
    of `RDropMixin.compute_once` in the order of the calls; in the other passes
    it returns them.

    Args:
        count_draws: A function that returns the number of random draws so far.
            By default draws are not counted.
    """

    def __init__(self, count_draws: Callable[[], int] = lambda: 0):
        self._count_draws = count_draws
        self._results: list[tuple[Any, list[Any]]] = []
        self._next: int | None = None

    def begin_pass(self, index: int) -> None:
        """Starts the first pass, or another that reuses its results."""
        self._next = None if index == 0 else 0

    @property
    def used(self) -> bool:
        """Whether there are results of the first pass."""
        return bool(self._results)

    def __call__(
        self, function: Callable[[], Any], overwritten: bool = True
    ) -> Any:
        """Returns the result of a function in the first pass.

        Args:
            function: The function.
            overwritten: Whether its result may be overwritten.
        """
        result = self._kept(function)
        return _keras.to_overwrite(result) if overwritten else result

    def _kept(self, function):
        if self._next is None:
            before = self._count_draws()
            result = function()
            if self._count_draws() > before:
                raise ValueError(
                    "Expected what `compute_once` computes to draw no random "
                    "numbers, since all passes take the result of the first. "
                    "Received a layer or function that does. Compute it "
                    "outside of `compute_once`."
                )
            leaves = keras.tree.flatten(result)
            masks = [_keras.mask_of(leaf) for leaf in leaves]
            self._results.append((result, masks))
            return result
        if self._next == len(self._results):
            raise ValueError(
                "Expected every pass to call `compute_once` as often as the "
                f"first, {self._next} times. Received one more."
            )
        result, masks = self._results[self._next]
        self._next += 1
        # `MultiHeadAttention` removes the masks from its inputs.
        for leaf, mask in zip(keras.tree.flatten(result), masks):
            _keras.carry_mask(leaf, mask)
        return result
