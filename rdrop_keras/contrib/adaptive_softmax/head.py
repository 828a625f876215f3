"""The vocabulary head of an `AdaptiveSoftmax`; see `closed_form/heads.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.closed_form.heads import HEAD_KINDS
from rdrop_keras.closed_form.heads import Head
from rdrop_keras.closed_form.heads import HeadKind
from rdrop_keras.closed_form.hidden import VocabularyLoss
from rdrop_keras.contrib.adaptive_softmax.layer import AdaptiveSoftmax
from rdrop_keras.contrib.adaptive_softmax.loss import adaptive_rdrop_loss


class AdaptiveSoftmaxHead(Head):
    """The head of an adaptive softmax, whose log-probabilities are its logits.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: AdaptiveSoftmax):
        self.layer = layer
        self.draws = layer.tail_dropout.rate > 0

    def check(self, label_smoothing: float, dropout_rates: Any) -> None:
        if label_smoothing:
            raise ValueError(
                "Expected a loss without label smoothing with an "
                "`AdaptiveSoftmax` and `vocabulary_chunk`. Received: "
                f"label_smoothing={label_smoothing!r}."
            )
        if dropout_rates is not None and self.draws:
            # The head runs after all passes, when no pass sets the rate.
            raise ValueError(
                "Expected `dropout_rates=None` with the dropout of an "
                "`AdaptiveSoftmax` and `vocabulary_chunk`. Received: "
                f"dropout_rates={dropout_rates!r}, dropout="
                f"{self.layer.tail_dropout.rate!r} in {self.layer.name}."
            )

    def loss(
        self, labels: Any, hidden: Sequence[Any], alpha: Any, **options: Any
    ) -> VocabularyLoss:
        options.pop("label_smoothing")
        return adaptive_rdrop_loss(
            labels, hidden, self.layer, alpha, training=True, **options
        )


def _is_changed(cls: type, layer: type) -> bool:
    # The chunked loss uses `adaptive_weights`, as `call` does, so a subclass
    # may override any other method.
    return cls.call is not layer.call


def _fault(layer: AdaptiveSoftmax, kwargs: dict[str, Any]) -> None:
    return None


def _read(
    layer: AdaptiveSoftmax, hidden: Any
) -> tuple[AdaptiveSoftmaxHead, Any]:
    hidden = keras.ops.cast(hidden, layer.compute_dtype)
    return AdaptiveSoftmaxHead(layer), hidden


HEAD_KINDS.append(HeadKind(AdaptiveSoftmax, _is_changed, _fault, _read))
