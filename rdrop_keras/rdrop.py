"""The settings of R-Drop, handed to `compile()`."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

import keras

from rdrop_keras import arguments
from rdrop_keras.arguments import Schedule
from rdrop_keras.divergences.base import Divergence

PASSES = ("auto", "calls", "concat", "shared_prefix")
MOVING_STATISTICS = ("every_pass", "first_pass")
ZERO_WEIGHT = "zero_weight"


@keras.saving.register_keras_serializable(package="rdrop_keras")
@dataclasses.dataclass(frozen=True)
class RDrop:
    """Settings of R-Drop training, for `RDropModel.compile(rdrop=...)`.

    Every batch runs through the model m times with dropout on, by default
    twice. Training minimizes

        loss = 1/m (T_1 + ... + T_m + alpha * C)

    with the task losses `T_i` of the passes, computed as plain training does,
    and the consistency `C`: the KL divergence in nats, averaged over all
    ordered pairs of passes (`(KL_12 + KL_21) / 2` for two) and reduced exactly
    as the task loss is. This is the paper's objective divided by m: alpha is
    the paper's alpha, whatever the batch size, and `loss` stays on the scale
    of plain training.

    Args:
        alpha: Weight of the consistency: a number, at least 0, or a
            `keras.optimizers.schedules.LearningRateSchedule`, evaluated at
            the optimizer's iterations. The paper uses 5 for translation, 0.7
            for summarization, 1 for language modeling, 0.1 to 1 for GLUE and
            0.6 for images. With 0 the passes are still averaged, which is the
            paper's control without KL. For a model with several outputs, a
            dict of these with an entry for every output that has a loss, by
            the name under which `fit` logs it, less `_loss`.
        divergence: How outputs are compared. `"auto"` follows the compiled
            loss: KL divergence between categorical distributions for
            categorical crossentropies, between Bernoulli distributions for
            binary crossentropy, squared error for MSE, MAE, Huber and
            log-cosh. For other losses pass `"categorical"`, `"bernoulli"`,
            `"squared_error"` or a `rdrop_keras.losses.Divergence`. A dict
            sets it by output name; other outputs follow their loss.
        num_passes: How many times each batch runs through the model, at
            least 2 (section 4.3 of the paper, which finds 2 enough).
        every: Run the extra passes and the consistency at every k-th optimizer
            update only, starting with the first (section 4.2, which finds 1
            best). Other updates are plain training at plain cost.
            `consistency_loss` is logged over the updates that have it.
        dropout_rates: One dropout rate for each pass, which replaces the rate
            of every dropout whose own rate is above 0 (section 4.4, which
            finds equal rates best). In layers of your own this is a `rate` or
            `dropout` below 1 beside a `keras.random.SeedGenerator`. None
            keeps the rates.
        passes: How the passes run. `"calls"`: one call of the model each,
            which is right for every model. `"concat"`: one call on the batch
            repeated m times (the paper's Algorithm 1), half the graph to
            trace and compile. It needs dense inputs, and outputs whose first
            axis is the batch; batch normalization sees the repeated batch.
            `"shared_prefix"`: layers before the first dropout run once, and
            the rest once for each pass, for functional and sequential models
            and for models that call `compute_once`; batch normalization there
            sees the batch once, as in plain training. `"auto"` is
            `"shared_prefix"` for models with something to share, and
            `"calls"` for others.
        moving_statistics: How a step updates the moving statistics of batch
            normalization. `"first_pass"`: as one plain pass does, like all
            other state of layers. `"every_pass"`: m times, as Keras does at
            each call.
        stop_gradient: Whether the first argument of each KL term is a
            constant target, so that each pass follows the others and gets no
            gradient for being followed. `consistency_loss` stays the same.
            The paper's objective has gradients on both sides.
        fused: Whether to compute task loss and consistency of an output
            together, with their gradient in closed form, if its loss is a
            categorical crossentropy of logits or of a softmax layer. The
            results agree to rounding and cost less time and memory, but the
            gradient cannot be differentiated again. For a softmax in half
            precision or with `ignore_class`, Keras's own loss sees
            probabilities that are rounded and clipped at 1e-7; the fused loss
            uses the logits, which is exact.
        unlabeled: What marks unlabeled items (rows or positions), which train
            on the consistency alone (semi-supervised R-Drop): the class id
            that the loss ignores, compiled with the same `ignore_class`, or
            `"zero_weight"` for items of sample weight 0. By default the
            consistency omits what the task loss omits.
        unlabeled_weight: The sample weight of unlabeled items in the
            consistency; labeled items have 1 by default.
        vocabulary_chunk: For outputs that are logits of a large vocabulary:
            the number of items whose logits training holds at a time, or
            `"auto"` for as many as fit into 32 MiB. Loss and gradients are
            computed in chunks from the input of the last layer, a `Dense`,
            `ReversibleEmbedding` or `AdaptiveSoftmax`. `fit` logs
            `token_accuracy` and `perplexity` in place of the compiled
            metrics, which `evaluate` reports. For functional models, and for
            models that compute their logits by `vocabulary_logits`. None
            computes all logits at once.
        check_dropout: Whether the first training step raises an error if both
            passes give identical outputs, which means that no dropout is
            active and R-Drop has no effect at double cost.

    Raises:
        TypeError: If an argument is of the wrong type.
        ValueError: If an argument is out of range, or two contradict.

    Example:

    >>> alpha = keras.optimizers.schedules.PolynomialDecay(0.0, 4000, 5.0)
    >>> settings = rdrop_keras.RDrop(alpha=alpha)
    >>> float(settings.alpha_at(2000))
    2.5

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), sections 2.1
        and 4.
    """

    alpha: float | Schedule | Mapping[str, float | Schedule] = 1.0
    divergence: str | Divergence | Mapping[str, str | Divergence] = "auto"
    _: dataclasses.KW_ONLY
    num_passes: int = 2
    every: int = 1
    dropout_rates: tuple[float, ...] | None = None
    passes: str = "auto"
    moving_statistics: str = "first_pass"
    stop_gradient: bool = False
    fused: bool = True
    unlabeled: int | str | None = None
    unlabeled_weight: float = 1.0
    vocabulary_chunk: int | str | None = None
    check_dropout: bool = True

    def __post_init__(self):
        def keep(name, value):
            object.__setattr__(self, name, value)

        keep("alpha", arguments.checked_alpha(self.alpha))
        keep("divergence", arguments.checked_divergence(self.divergence))
        arguments.check_whole(
            "num_passes",
            self.num_passes,
            least=2,
            mend="One pass is plain training: `rdrop=None`.",
        )
        arguments.check_whole("every", self.every, least=1)
        if self.dropout_rates is not None:
            rates = arguments.checked_rates(self.dropout_rates, self.num_passes)
            keep("dropout_rates", rates)
        arguments.check_choice("passes", self.passes, PASSES)
        arguments.check_choice(
            "moving_statistics", self.moving_statistics, MOVING_STATISTICS
        )
        arguments.check_whole_or_word(
            "unlabeled",
            self.unlabeled,
            ZERO_WEIGHT,
            f"a class id or '{ZERO_WEIGHT}'",
        )
        arguments.check_whole_or_word(
            "vocabulary_chunk",
            self.vocabulary_chunk,
            "auto",
            "a number of items, 'auto' or None",
            least=1,
        )
        arguments.check_number("unlabeled_weight", self.unlabeled_weight)
        for name in ("stop_gradient", "fused", "check_dropout"):
            arguments.check_bool(name, getattr(self, name))
        arguments.check_together(self)

    def alpha_at(self, iterations: Any) -> Any:
        """Returns alpha, or a dict by output name, after some updates."""

        def at(alpha):
            return alpha(iterations) if isinstance(alpha, Schedule) else alpha

        if isinstance(self.alpha, dict):
            return {name: at(alpha) for name, alpha in self.alpha.items()}
        return at(self.alpha)

    def scheduled_alpha(self, iterations: Any) -> dict[str, Any]:
        """Returns logs of the schedules: `alpha` or `<output>_alpha`."""
        if isinstance(self.alpha, Schedule):
            return {"alpha": self.alpha(iterations)}
        if isinstance(self.alpha, dict):
            return {
                f"{name}_alpha": alpha(iterations)
                for name, alpha in self.alpha.items()
                if isinstance(alpha, Schedule)
            }
        return {}

    @classmethod
    def from_argument(cls, rdrop: Any) -> RDrop | None:
        """Reads what `compile(rdrop=...)` accepts.

        Args:
            rdrop: An `RDrop`, a number or schedule (alpha), True (alpha 1),
                or None or False for plain training.

        Returns:
            An `RDrop`, or None for plain training.

        Raises:
            TypeError: If it is anything else.
        """
        if rdrop is None or rdrop is False:
            return None
        if isinstance(rdrop, cls):
            return rdrop
        if rdrop is True:
            return cls()
        if isinstance(rdrop, (numbers.Real, Schedule)):
            return cls(alpha=rdrop)
        raise TypeError(
            "Expected `rdrop` to be a number (alpha), an `RDrop`, or None "
            f"for plain training. Received: rdrop={rdrop!r}."
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the settings as a JSON-serializable dict."""
        serialize = keras.saving.serialize_keras_object
        return {
            field.name: serialize(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RDrop:
        """Restores the settings that `get_config` returned."""
        deserialize = keras.saving.deserialize_keras_object
        return cls(**{key: deserialize(v) for key, v in config.items()})
