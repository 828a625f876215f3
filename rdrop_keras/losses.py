"""Divergences between passes, the R-Drop objective, and a task loss."""

from rdrop_keras.closed_form.hidden import vocabulary_rdrop_loss
from rdrop_keras.closed_form.logits import fused_rdrop_loss
from rdrop_keras.contrib.adaptive_softmax import adaptive_rdrop_loss
from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.bernoulli import BernoulliConsistency
from rdrop_keras.divergences.bernoulli import bernoulli_consistency
from rdrop_keras.divergences.categorical import CategoricalConsistency
from rdrop_keras.divergences.categorical import categorical_consistency
from rdrop_keras.divergences.label_smoothed import LabelSmoothedCrossentropy
from rdrop_keras.divergences.squared_error import SquaredErrorConsistency
from rdrop_keras.divergences.squared_error import squared_error_consistency
from rdrop_keras.objective.functional import rdrop_loss

__all__ = [
    "BernoulliConsistency",
    "CategoricalConsistency",
    "Divergence",
    "LabelSmoothedCrossentropy",
    "SquaredErrorConsistency",
    "adaptive_rdrop_loss",
    "bernoulli_consistency",
    "categorical_consistency",
    "fused_rdrop_loss",
    "rdrop_loss",
    "squared_error_consistency",
    "vocabulary_rdrop_loss",
]


def __dir__() -> list[str]:
    return [name for name in globals() if name in __all__ or name[:2] == "__"]
