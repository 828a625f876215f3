"""One recipe of the paper: settings, results, and Keras objects of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

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
    """How the paper trains one model on one dataset, and what came of it.

    The settings are the paper's. Where it is silent, they are those of its
    authors' code, as `source` of each group says; None is what neither says.
    Where the two differ, `discrepancies` has both.

    Args:
        name: What `rdrop_keras.recipes.get` takes.
        task: `"translation"`, `"summarization"`, `"language_modeling"`,
            `"language_understanding"` or `"image_classification"`.
        dataset: The dataset, one of 18, as the paper counts them.
        model: The network.
        alpha: The weight of the consistency.
        alpha_source: Where alpha was read.
        divergence: How `RDrop` compares outputs.
        dropout: Dropout rates of the network.
        optimizer_settings: The optimizer.
        schedule: The learning rate.
        batch: The batch.
        vocabulary: The vocabulary, for text.
        decoding: How it is evaluated, for generated text and language models.
        label_smoothing: Of the task loss.
        results: What the paper reports without and with R-Drop, the main
            result first.
        authors_alpha: What the authors' code has in place of alpha, where
            that has an equivalent.
        searched: The values among which settings were chosen.
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
    divergence: str
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

    def summary(self) -> str:
        """Returns settings, results and discrepancies as a short text."""
        return summary(self)

    @property
    def metric(self) -> str:
        """The metric of the main result."""
        return self.results[0].metric

    def replace(self, **changes: Any) -> Recipe:
        """Returns the recipe with other settings, leaving this one as it is.

        Args:
            **changes: New values of the fields. For a group of settings a
                dict changes those it names:
                `recipe.replace(alpha=3.0, schedule={"total_updates": 1000})`.

        Returns:
            A `Recipe`.

        Raises:
            TypeError: If there is no such setting.
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
        """Returns the learning rate by the number of updates made.

        Where gradients are accumulated, `optimizer()` wraps it in
        `PerUpdate`.

        Raises:
            ValueError: If `schedule` lacks what its kind needs.
        """
        schedule = self.schedule
        warmup = schedule.warmup_updates or 0
        initial = schedule.initial_learning_rate or 0.0
        highest = schedule.learning_rate
        end = schedule.end_learning_rate or 0.0
        if schedule.kind == "inverse_square_root":
            return InverseSquareRoot(highest, warmup, initial)
        if schedule.kind not in SCHEDULES:
            raise ValueError(
                f"Expected `schedule.kind` to be one of {SCHEDULES}. "
                f"Received: kind={schedule.kind!r}."
            )
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
            summed_loss: The numbers of a recipe are those published. The
                paper's loss is the sum over two passes, ours the mean, and
                its gradient half as large. True makes up for that, so that
                the updates are those of the paper's loss: half the clipping
                norm and epsilon, and for SGD twice the learning rate. Leave
                it False for plain training.

        Returns:
            A `keras.optimizers.Optimizer`, to be used for one model. What a
            recipe leaves None has Keras's default.

        Raises:
            ValueError: If the recipe lacks what the optimizer needs.
        """
        settings = self.optimizer_settings
        times = 2.0 if summed_loss else 1.0
        steps = self.batch.gradient_accumulation_steps or 1
        options: dict[str, Any] = {}
        if settings.global_clipnorm is not None:
            options["global_clipnorm"] = settings.global_clipnorm / times
        if steps > 1:
            options["gradient_accumulation_steps"] = steps
        if settings.name == "adam":
            options["weight_decay"] = settings.weight_decay or None
            if settings.betas is not None:
                options["beta_1"], options["beta_2"] = settings.betas
            if settings.epsilon is not None:
                options["epsilon"] = settings.epsilon / times
            rate, optimizer_class = self.learning_rate(), keras.optimizers.Adam
        elif settings.name in OPTIMIZERS:
            # Keras's decay is weight_decay * learning rate.
            options["weight_decay"] = (settings.weight_decay or 0) / times
            options["momentum"] = settings.momentum or 0.0
            options["nesterov"] = settings.name == "nesterov"
            rate, optimizer_class = (
                self._with_rates(times).learning_rate(),
                keras.optimizers.SGD,
            )
        else:
            raise ValueError(
                "Expected `optimizer_settings.name` to be one of "
                f"{OPTIMIZERS}. Received: name={settings.name!r}."
            )
        if steps > 1:
            rate = PerUpdate(rate, steps)
        optimizer = optimizer_class(rate, **options)
        if settings.undecayed:
            optimizer.exclude_from_weight_decay(
                var_names=list(settings.undecayed)
            )
        return optimizer

    def _with_rates(self, times: float) -> Recipe:
        schedule = self.schedule
        names = ("learning_rate", "initial_learning_rate", "end_learning_rate")
        rates = {name: getattr(schedule, name) for name in names}
        return self.replace(
            schedule={
                name: None if rate is None else rate * times
                for name, rate in rates.items()
            }
        )
