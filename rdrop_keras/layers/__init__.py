"""Layers for graphs that hold several branches themselves."""

from rdrop_keras.layers.adaptive_softmax import AdaptiveSoftmax
from rdrop_keras.layers.consistency import Consistency

__all__ = ["AdaptiveSoftmax", "Consistency"]
