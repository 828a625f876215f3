"""The objective of an adaptive softmax without its log-probabilities."""

from rdrop_keras.contrib.adaptive_softmax.loss import adaptive_rdrop_loss
from rdrop_keras.contrib.adaptive_softmax.weights import AdaptiveWeights

__all__ = ["AdaptiveWeights", "adaptive_rdrop_loss"]
