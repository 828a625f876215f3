"""Which of several workers writes files."""

from __future__ import annotations

import keras

from rdrop_keras import _keras


def writes(model: keras.Model) -> bool:
    """Returns whether this process writes: of several workers, the chief.

    All workers end an epoch with the same state. The chief is that of a
    strategy on TensorFlow, and process 0 of a distribution on JAX.

    Args:
        model: The model that is trained. On TensorFlow it has a strategy.
    """
    strategy = getattr(model, "distribute_strategy", None)
    if strategy is not None:
        return strategy.extended.should_checkpoint
    return _keras.process_index() == 0
