"""An adaptive softmax: the layer, and its objective computed in chunks."""

from rdrop_keras.contrib.adaptive_softmax import head as head
from rdrop_keras.contrib.adaptive_softmax.layer import AdaptiveSoftmax
from rdrop_keras.contrib.adaptive_softmax.loss import adaptive_rdrop_loss
from rdrop_keras.contrib.adaptive_softmax.weights import AdaptiveWeights

__all__ = ["AdaptiveSoftmax", "AdaptiveWeights", "adaptive_rdrop_loss"]
