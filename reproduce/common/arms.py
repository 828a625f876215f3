"""The four training methods ("arms") that every task compares.

All arms make the same number of optimizer updates on the same batches. All
except `plain` run every row through the network twice per update, so that
differences among these three do not come from a different amount of compute.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from rdrop_keras import RDrop
from reproduce.data.batches import Mapped

ARMS = {
    "plain": "plain Keras training",
    "doubled": "plain training on [x; x], every row twice in its batch",
    "two_pass": "two passes averaged, alpha 0",
    "rdrop": "R-Drop",
}
TWO_PASSES = ("two_pass", "rdrop")


def rdrop_of(arm: str, alpha: float, **settings: Any) -> RDrop | None:
    """Returns the `rdrop` argument of `compile`; settings as for `RDrop`."""
    _check(arm)
    if arm not in TWO_PASSES:
        return None
    return RDrop(alpha=alpha if arm == "rdrop" else 0.0, **settings)


def batches_of(
    arm: str, batches: keras.utils.PyDataset
) -> keras.utils.PyDataset:
    """Returns the batches to pass to `fit`, from those of the plain arm."""
    _check(arm)

    def twice(*batch: Any) -> Any:
        return keras.tree.map_structure(lambda x: np.concatenate([x, x]), batch)

    return Mapped(batches, twice) if arm == "doubled" else batches


def _check(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(
            f"Expected an arm out of {', '.join(ARMS)}. Received: {arm}."
        )
