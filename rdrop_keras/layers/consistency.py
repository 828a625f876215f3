"""A layer that makes the branches of a graph agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from rdrop_keras.divergences.base import Divergence
from rdrop_keras.divergences.for_loss import DIVERGENCES
from rdrop_keras.divergences.for_loss import divergence_for
from rdrop_keras.objective.one_output import compare
from rdrop_keras.rdrop import RDrop

ops = keras.ops


@keras.saving.register_keras_serializable("rdrop_keras")
class Consistency(keras.layers.Layer):
    """A layer that adds the divergence between branches to the loss.

    It is for functional graphs that contain the branches themselves: two
    heads, two views of one image, one encoder called twice. The layer returns
    its inputs unchanged, and in training adds

        alpha * mean over the items of D(o_1, ..., o_m)

    to the loss, in float32, where `D` is the mean divergence over all ordered
    pairs of branches. With a task loss on each of two branches, which Keras
    sums, this is the paper's Eq. 4 as printed. (`RDropModel` minimizes half of
    that.)

    Args:
        alpha: Weight of the consistency, a number >= 0.
        divergence: `"categorical"` or `"bernoulli"` for outputs that are
            probabilities, `"squared_error"`, or a
            `rdrop_keras.losses.Divergence`, for instance
            `CategoricalConsistency(from_logits=True)`.
        **kwargs: Other arguments of `keras.layers.Layer`. If this is the last
            layer, Keras uses its `name` for the outputs and for their losses
            in the logs.

    Call arguments:
        inputs: A list or tuple of two or more tensors of one shape,
            `(batch, ..., classes)`. Items that are masked in any of them do
            not count.
        sample_weight: Optional weights of the items, `(batch,)` or the shape
            of the items.
        training: Whether to add the loss.

    Returns:
        The inputs, unchanged, with their masks.

    Raises:
        ValueError: If alpha is negative or not finite, the divergence is
            unknown, or there are fewer than two inputs.

    Example:

    >>> x = keras.Input((8,))
    >>> dropout, head = keras.layers.Dropout(0.1), keras.layers.Dense(3)
    >>> branches = [head(dropout(x)), head(dropout(x))]
    >>> divergence = rdrop_keras.losses.CategoricalConsistency(from_logits=True)
    >>> consistency = rdrop_keras.layers.Consistency(5.0, divergence)
    >>> model = keras.Model(x, consistency(branches))

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 2.1,
        Eq. 4.
    """

    def __init__(
        self, alpha: float, divergence: str | Divergence, **kwargs: Any
    ):
        # The inputs keep their dtype under every policy.
        super().__init__(autocast=False, **kwargs)
        if divergence == "auto":
            raise ValueError(
                "Expected `divergence` to say how the branches are compared, "
                "since a layer does not know the loss of its outputs. "
                f"Received: 'auto'. Pass one of {list(DIVERGENCES)} or a "
                "`rdrop_keras.losses.Divergence`."
            )
        settings = RDrop(alpha=alpha, divergence=divergence)
        if not isinstance(settings.alpha, float):
            raise TypeError(
                "Expected `alpha` to be a number: a layer does not know the "
                f"optimizer's iterations. Received: alpha={alpha!r}."
            )
        self.alpha = settings.alpha
        self.divergence = settings.divergence
        self.supports_masking = True

    def call(
        self,
        inputs: Sequence[Any],
        sample_weight: Any = None,
        training: bool | None = None,
    ) -> Sequence[Any]:
        if not isinstance(inputs, (list, tuple)) or len(inputs) < 2:
            raise ValueError(
                f"Expected `{self.name}` to be called on a list of two or "
                f"more branches. Received: inputs={inputs!r}."
            )
        if training:
            self.add_loss(self.alpha * self._mean(inputs, sample_weight))
        return inputs

    def _mean(self, inputs: Sequence[Any], sample_weight: Any) -> Any:
        # A sum that is divided here: Keras divides `add_loss` terms by the
        # number of replicas, and its mean reductions would do so again.
        divergence = divergence_for(None, self.divergence, reduction="sum")
        compared = compare(inputs, divergence, sample_weight, name=self.name)
        counted = ops.ones_like(compared.values)
        if compared.mask is not None:
            counted = ops.cast(compared.mask, counted.dtype)
        return ops.divide_no_nan(compared.value, ops.sum(counted))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "divergence": keras.saving.serialize_keras_object(self.divergence),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Consistency:
        config = dict(config)
        config["divergence"] = keras.saving.deserialize_keras_object(
            config["divergence"]
        )
        return cls(**config)
