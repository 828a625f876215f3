"""One recipe of the paper: settings, results, and Keras objects from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from rdrop_keras.arguments import check_choice
from rdrop_keras.rdrop import RDrop
from rdrop_keras.recipes.schedules import InverseSquareRoot
from rdrop_keras.recipes.schedules import LinearWarmup
from rdrop_keras.recipes.schedules import PerUpdate
from rdrop_keras.recipes.schedules import Schedule
from rdrop_keras.recipes.settings import AuthorsAlpha
from rdrop_keras.recipes.settings import BatchSettings
from rdrop_keras.recipes.settings import DecodingSettings
from rdrop_keras.recipes.settings import DropoutSettings
from rdrop_keras.recipes.settings import ModelSettings
from rdrop_keras.recipes.settings import OptimizerSettings
from rdrop_keras.recipes.settings import Result
from rdrop_keras.recipes.settings import ScheduleSettings
from rdrop_keras.recipes.settings import Searched
from rdrop_keras.recipes.settings import VocabularySettings
from rdrop_keras.recipes.summary import summary

SCHEDULES = ("inverse_square_root", "polynomial", "cosine")
OPTIMIZERS = ("adam", "sgd", "nesterov")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How the paper trains one model on one dataset, and its results.

    The settings are the paper's. Where the paper is silent, they come from
    its authors' code, as the `source` of each group says; None means that
    neither gives a value. `discrepancies` lists where the two differ.

    Args:
        name: The argument of `rdrop_keras.recipes.get`.
        task: `"translation"`, `"summarization"`, `"language_modeling"`,
            `"language_understanding"` or `"image_classification"`.
        dataset: One of the paper's 18 datasets.
        model: The network.
        alpha: The weight of the consistency.
        alpha_source: Where alpha is stated.
        divergence: The `divergence` argument of `RDrop`.
        dropout: The dropout rates of the network.
        optimizer_settings: The optimizer.
        schedule: The learning rate.
        batch: The batch.
        vocabulary: The vocabulary, for text.
        decoding: The evaluation of generated text and of language models.
        label_smoothing: The label smoothing of the task loss.
        results: The paper's results without and with R-Drop, the main result
            first.
        authors_alpha: The weight in the authors' code, if it has an
            equivalent here.
        searched: The values from which settings were chosen.
        discrepancies: Where the sources differ, in sentences.

    Example:

    >>> recipe = rdrop_keras.recipes.get("glue_mrpc_bert_base")
    >>> recipe.alpha, recipe.batch.examples, recipe.schedule.total_updates
    (1.0, 16, 2296)
    >>> model = rdrop_keras.RDropModel.from_model(
    ...     keras.Sequential([keras.layers.Dropout(recipe.dropout.rate),
    ...                       keras.layers.Dense(2)]))
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> model.compile(recipe.optimizer(), loss, rdrop=recipe.rdrop())

    Reference:
        [Liang et al., 2021](https://arxiv.org/abs/2106.14448), section 3 and
        appendix A.
    """

    name: str
    task: str
    dataset: str
    model: ModelSettings
    alpha: float
    alpha_source: str
    divergence: str = "categorical"
    dropout: DropoutSettings
    optimizer_settings: OptimizerSettings
    schedule: ScheduleSettings
    batch: BatchSettings
    results: tuple[Result, ...]
    vocabulary: VocabularySettings | None = None
    decoding: DecodingSettings | None = None
    label_smoothing: float | None = None
    authors_alpha: AuthorsAlpha | None = None
    searched: tuple[Searched, ...] = ()
    discrepancies: tuple[str, ...] = ()

    def __str__(self) -> str:
        return summary(self)

    @property
    def metric(self) -> str:
        """The metric of the main result."""
        return self.results[0].metric

    def replace(self, **changes: Any) -> Recipe:
        """Returns a copy with other settings.

        Args:
            **changes: New values of the fields. A dict changes the named
                settings of a group:
                `recipe.replace(alpha=3.0, schedule={"total_updates": 1000})`.

        Returns:
            A `Recipe`.

        Raises:
            TypeError: If a setting does not exist.
        """
        for name, change in changes.items():
            group = getattr(self, name, None)
            if isinstance(change, Mapping) and dataclasses.is_dataclass(group):
                changes[name] = dataclasses.replace(group, **change)
        return dataclasses.replace(self, **changes)

    def rdrop(self) -> RDrop:
        """Returns the settings for `compile(rdrop=...)`."""
        return RDrop(self.alpha, self.divergence)

    def learning_rate(self) -> Schedule:
        """Returns the learning rate as a function of the number of updates.

        With gradient accumulation, `optimizer()` wraps it in `PerUpdate`.

        Raises:
            ValueError: If `schedule` lacks a setting that its kind needs.
        """
        return self._learning_rate(1.0)

    def _learning_rate(self, times: float) -> Schedule:
        schedule = self.schedule
        warmup = schedule.warmup_updates or 0
        highest = schedule.learning_rate * times
        initial = (schedule.initial_learning_rate or 0.0) * times
        end = (schedule.end_learning_rate or 0.0) * times
        check_choice("schedule.kind", schedule.kind, SCHEDULES)
        if schedule.kind == "inverse_square_root":
            return InverseSquareRoot(highest, warmup, initial)
        if (schedule.total_updates or 0) <= warmup:
            raise ValueError(
                "Expected `schedule.total_updates` to be more than the "
                f"{warmup} updates of the warm-up. Received: "
                f"total_updates={schedule.total_updates}. Set it: "
                'recipe.replace(schedule={"total_updates": ...}).'
            )
        updates = schedule.total_updates - warmup
        schedules = keras.optimizers.schedules
        if schedule.kind == "cosine":
            decay = schedules.CosineDecay(highest, updates, end / highest)
        else:
            power = 1.0 if schedule.power is None else schedule.power
            decay = schedules.PolynomialDecay(highest, updates, end, power)
        return LinearWarmup(decay, warmup, initial)

    def optimizer(
        self, summed_loss: bool = False
    ) -> keras.optimizers.Optimizer:
        """Returns a new optimizer with schedule, clipping and accumulation.

        Args:
            summed_loss: Whether to make the updates those of the paper's
                loss, which is the sum over two passes: its gradient is twice
                that of our mean. True halves the clipping norm and epsilon,
                and doubles the learning rate of SGD. Leave it False for plain
                training.

        Returns:
            A `keras.optimizers.Optimizer` for one model. Settings that are
            None have Keras's defaults.

        Raises:
            ValueError: If the recipe lacks a setting that the optimizer needs.
        """
        settings = self.optimizer_settings
        check_choice("optimizer_settings.name", settings.name, OPTIMIZERS)
        times = 2.0 if summed_loss else 1.0
        clipnorm, epsilon = settings.global_clipnorm, settings.epsilon
        steps = self.batch.gradient_accumulation_steps or 1
        options: dict[str, Any] = {
            "global_clipnorm": clipnorm and clipnorm / times,
            "gradient_accumulation_steps": steps if steps > 1 else None,
        }
        if settings.name == "adam":
            make = keras.optimizers.Adam
            rate = self._learning_rate(1.0)
            decay = settings.weight_decay or None
            options["beta_1"], options["beta_2"] = settings.betas or (None,) * 2
            options["epsilon"] = epsilon and epsilon / times
        else:
            make = keras.optimizers.SGD
            rate = self._learning_rate(times)
            # Keras multiplies the decay by the learning rate.
            decay = (settings.weight_decay or 0) / times or None
            options["momentum"] = settings.momentum
            options["nesterov"] = settings.name == "nesterov"
        given = {k: v for k, v in options.items() if v is not None}
        if steps > 1:
            rate = PerUpdate(rate, steps)
        optimizer = make(rate, weight_decay=decay, **given)
        if settings.undecayed:
            optimizer.exclude_from_weight_decay(
                var_names=list(settings.undecayed)
            )
        return optimizer

    def summary(self) -> str:
        """Returns settings, results and discrepancies as a short text."""
        return summary(self)
