"""The four ways of training that every task compares.

All make the same number of optimizer updates on the same batches, and all but
`plain` run every row through the network twice per update, so that a
difference between them is not one of training time.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from rdrop_keras import RDrop
from reproduce.data.planned import Mapped

ARMS = {
    "plain": "plain Keras training",
    "doubled": "plain training on [x; x], every row twice in its batch",
    "two_pass": "two passes averaged, alpha 0",
    "rdrop": "R-Drop",
}
TWO_PASSES = ("two_pass", "rdrop")


def rdrop_of(arm: str, alpha: float, **settings: Any) -> RDrop | None:
    """Returns what `compile(rdrop=...)` takes for an arm.

    Args:
        arm: A key of `ARMS`.
        alpha: The weight of the consistency, for the arm `rdrop`.
        **settings: As for `RDrop`, for both arms with two passes.
    """
    _check(arm)
    if arm not in TWO_PASSES:
        return None
    return RDrop(alpha=alpha if arm == "rdrop" else 0.0, **settings)


def batches_of(arm: str, batches: Any) -> Any:
    """Returns what `fit` takes for an arm, from its plain batches.

    Args:
        arm: A key of `ARMS`.
        batches: A `PyDataset`, or a `tf.data.Dataset`.
    """
    _check(arm)
    if arm != "doubled":
        return batches
    if isinstance(batches, keras.utils.PyDataset):
        return Mapped(batches, _twice)
    import tensorflow as tf

    def twice(*batch):
        return tf.nest.map_structure(lambda x: tf.concat([x, x], axis=0), batch)

    return batches.map(twice)


def _twice(*batch: Any) -> Any:
    return keras.tree.map_structure(lambda x: np.concatenate([x, x]), batch)


def _check(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(
            f"Expected an arm out of {', '.join(ARMS)}. Received: {arm}."
        )
