"""The objective of an adaptive softmax without its log-probabilities."""

from rdrop_keras.losses.adaptive.function import adaptive_rdrop_loss
from rdrop_keras.losses.adaptive.weights import AdaptiveWeights

__all__ = ["AdaptiveWeights", "adaptive_rdrop_loss"]
