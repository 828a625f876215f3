"""Which of several workers writes files."""

from __future__ import annotations

import keras


def writes(model: keras.Model) -> bool:
    """Returns whether this process writes: of several workers, the chief.

    All workers end an epoch with the same state.

    Args:
        model: The model that is trained. On TensorFlow it has a strategy.
    """
    strategy = getattr(model, "distribute_strategy", None)
    return strategy is None or strategy.extended.should_checkpoint
