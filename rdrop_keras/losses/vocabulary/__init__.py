"""The objective of a large vocabulary without the logits of the batch."""

from rdrop_keras.losses.vocabulary.function import VocabularyLoss
from rdrop_keras.losses.vocabulary.function import vocabulary_rdrop_loss

__all__ = ["VocabularyLoss", "vocabulary_rdrop_loss"]
