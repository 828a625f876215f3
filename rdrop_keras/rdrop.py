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
    twice. Minimised is

        loss = 1/m (T_1 + ... + T_m + alpha * C)

    with the task losses `T_i` of the passes, exactly as plain training
    computes them, and the consistency `C`, the KL divergence averaged over
    all ordered pairs of passes, `(KL_12 + KL_21) / 2` for two, in nats,
    reduced exactly as the task loss is. This is the paper's objective divided
    by m: alpha is the paper's alpha, whatever the batch size, and `loss` stays
    on the scale of plain training.

    Args:
        alpha: Weight of the consistency: a number, at least 0, or a
            `keras.optimizers.schedules.LearningRateSchedule`, evaluated at
            the optimizer's iterations. The paper uses 5 for translation, 0.7
            for summarization, 1 for language modelling, 0.1 to 1 for GLUE
            and 0.6 for images. With 0 the two passes are still averaged,
            which is the paper's control without KL. For a model with several
            outputs, a dict of either by output name: every output that has a
            loss, by the name under which `fit` logs it, less `_loss`.
        divergence: How outputs are compared. `"auto"` follows the compiled
            loss: KL divergence between categorical distributions beside
            categorical crossentropies, between Bernoulli distributions beside
            binary crossentropy, squared error beside MSE, MAE, Huber and
            log-cosh. `"categorical"`, `"bernoulli"`, `"squared_error"` or a
            `rdrop_keras.losses.Divergence` says it for losses that leave
            room for doubt. A dict says it by output name; outputs that it
            does not name follow their loss.
        num_passes: How many times each batch runs through the model, m >= 2
            (the paper's section 4.3; it finds 2 enough).
        every: The passes beyond the first and the consistency are made at
            every k-th optimizer update only, from the first one on; at the
            others training is plain, at plain cost (section 4.2; it finds 1
            best). `consistency_loss` is logged over the updates that have it.
        dropout_rates: One dropout rate for each pass, in place of the model's
            own: every dropout with a rate above 0 gets it for that pass
            (section 4.4; it finds equal rates best). In layers of your own
            that is a `rate` or `dropout` below 1 beside a
            `keras.random.SeedGenerator`. None keeps the rates.
        passes: How the passes run. `"calls"`: one call of the model each,
            right for every model. `"concat"`: one call on the batch repeated
            m times (the paper's Algorithm 1), half the graph to trace and
            compile; needs dense inputs, and outputs with the batch as their
            first axis, and batch normalization sees the repeated batch.
            `"shared_prefix"`: what comes before the first dropout runs once,
            and the rest once for each pass; for functional and sequential
            models, and for others that say what it is by `compute_once`;
            batch normalization there sees the batch once, as in plain
            training. `"auto"` is `"shared_prefix"` for models that have
            something to share, and `"calls"` for all others.
        moving_statistics: What batch normalization remembers of a step:
            `"first_pass"` leaves its moving statistics as one plain pass
            would, which is what happens to all other state of layers;
            `"every_pass"` advances them at each pass, as Keras does at each
            call, m times a step.
        stop_gradient: Whether the first argument of each KL term is a
            constant target, so that each pass follows the others and gets no
            gradient for being followed. `consistency_loss` stays the same,
            its gradient is that of one side. The paper's objective has
            gradients on both sides.
        fused: Whether task loss and consistency of an output are computed
            together, with their gradient in closed form, where its loss is a
            categorical crossentropy of logits, or of a softmax whose logits
            are at hand. The same to rounding, in less time and memory; but the
            gradient cannot be differentiated again. Of a softmax output in
            half precision, or with `ignore_class`, Keras's loss sees the
            probabilities alone, rounded and clipped at 1e-7; the fused loss
            is that of the logits, which is exact.
        unlabeled: What marks items, rows or positions, without a label, which
            train on the consistency alone (semi-supervised R-Drop): the class
            id that the loss ignores, compiled with the same `ignore_class`;
            or `"zero_weight"`, for items of sample weight 0. By default what
            the task loss leaves out is left out of the consistency too.
        unlabeled_weight: The sample weight of unlabeled items in the
            consistency, where those of labeled items are 1 by default.
        vocabulary_chunk: For outputs that are logits of a large vocabulary: of
            how many items training holds the logits of all passes at a time,
            or `"auto"` for as many as fit into 32 MiB.
            It then computes the loss and its gradients in chunks from what
            goes into the last layer, a `Dense`, `ReversibleEmbedding` or
            `AdaptiveSoftmax`, and logs `token_accuracy` and `perplexity` in
            place of the compiled metrics, which `evaluate` has. For functional
            models, and for others that compute their logits by
            `vocabulary_logits`. None computes them at once.
        check_dropout: Whether the first training step may fail because both
            passes gave identical outputs, that is because no dropout was
            active and R-Drop would cost double for nothing.

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
        arguments.check_whole("num_passes", self.num_passes, least=2)
        arguments.check_whole("every", self.every, least=1)
        if self.dropout_rates is not None:
            keep(
                "dropout_rates",
                arguments.checked_rates(self.dropout_rates, self.num_passes),
            )
        arguments.check_choice("passes", self.passes, PASSES)
        arguments.check_choice(
            "moving_statistics", self.moving_statistics, MOVING_STATISTICS
        )
        if self.unlabeled not in (None, ZERO_WEIGHT):
            if isinstance(self.unlabeled, str):
                raise ValueError(
                    "Expected `unlabeled` to be a class id or "
                    f"'{ZERO_WEIGHT}'. Received: unlabeled={self.unlabeled!r}."
                )
            arguments.check_whole("unlabeled", self.unlabeled)
        arguments.check_number("unlabeled_weight", self.unlabeled_weight)
        for name in ("stop_gradient", "fused", "check_dropout"):
            arguments.check_bool(name, getattr(self, name))
        self._check_together()

    def _check_together(self) -> None:
        if self.passes == "concat" and self.dropout_rates is not None:
            raise ValueError(
                "Expected `passes='calls'` with `dropout_rates`: in one call "
                "every layer has one rate. Received: passes='concat', "
                f"dropout_rates={self.dropout_rates!r}."
            )
        if self.vocabulary_chunk is not None:
            self._check_chunks()
        if self.unlabeled is None and self.unlabeled_weight != 1.0:
            raise ValueError(
                "Expected `unlabeled` with `unlabeled_weight`: a class id or "
                f"'{ZERO_WEIGHT}' says which items are unlabeled. Received: "
                f"unlabeled=None, unlabeled_weight={self.unlabeled_weight!r}."
            )

    def _check_chunks(self) -> None:
        if self.vocabulary_chunk != "auto":
            if isinstance(self.vocabulary_chunk, str):
                raise ValueError(
                    "Expected `vocabulary_chunk` to be a number of items, "
                    "'auto' or None. Received: "
                    f"vocabulary_chunk={self.vocabulary_chunk!r}."
                )
            arguments.check_whole(
                "vocabulary_chunk", self.vocabulary_chunk, least=1
            )
        for name, wanted in (
            ("passes", ("auto", "calls", "shared_prefix")),
            ("every", (1,)),
            ("unlabeled", (None,)),
        ):
            value = getattr(self, name)
            if value not in wanted:
                raise ValueError(
                    f"Expected `{name}={wanted[0]!r}` with `vocabulary_chunk`, "
                    f"which has no other. Received: {name}={value!r}."
                )

    def alpha_at(self, iterations: Any) -> Any:
        """Returns alpha at a number of optimizer updates.

        A number or scalar tensor, or a dict of them by output name.
        """

        def at(alpha):
            return alpha(iterations) if isinstance(alpha, Schedule) else alpha

        if isinstance(self.alpha, dict):
            return {name: at(alpha) for name, alpha in self.alpha.items()}
        return at(self.alpha)

    def scheduled_alpha(self, iterations: Any) -> dict[str, Any]:
        """Returns what schedules give at a number of updates, to be logged.

        By the names of the logs: `alpha`, or `<output>_alpha`.
        """
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
