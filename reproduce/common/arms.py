"""The four ways of training that every example compares.

All make the same number of optimizer updates on the same batches, and all but
`plain` run every row through the network twice per update, so that a
difference between them is not one of training time.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from rdrop_keras import RDrop

ARMS = {
    "plain": "plain Keras training",
    "doubled": "plain training on [x; x], every row twice in its batch",
    "two_pass": "two passes averaged, alpha 0",
    "rdrop": "R-Drop",
}


def rdrop_of(arm: str, alpha: float) -> RDrop | None:
    """Returns what `compile(rdrop=...)` takes for an arm."""
    _check(arm)
    if arm == "rdrop":
        return RDrop(alpha=alpha)
    return RDrop(alpha=0.0) if arm == "two_pass" else None


def batches_of(arm: str, batches: tf.data.Dataset) -> tf.data.Dataset:
    """Returns what `fit` takes for an arm, from its plain batches."""
    _check(arm)
    return batches.map(_twice) if arm == "doubled" else batches


def _twice(*batch: Any) -> Any:
    return tf.nest.map_structure(lambda x: tf.concat([x, x], axis=0), batch)


def _check(arm: str) -> None:
    if arm not in ARMS:
        raise ValueError(
            f"Expected an arm out of {', '.join(ARMS)}. Received: {arm}."
        )
