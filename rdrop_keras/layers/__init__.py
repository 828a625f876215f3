"""Keras layers: consistency between branches, and an adaptive softmax."""

from rdrop_keras.contrib.adaptive_softmax import AdaptiveSoftmax
from rdrop_keras.layers.consistency import Consistency

__all__ = ["AdaptiveSoftmax", "Consistency"]


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
