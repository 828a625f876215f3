"""Text classification with BERT or RoBERTa, GLUE, and a regression."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from typing import Literal

import keras

from rdrop_keras import recipes
from reproduce.common.arms import TWO_PASSES
from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.data.diabetes import Diabetes
from reproduce.data.diabetes import load_diabetes
from reproduce.data.glue import GlueDataset
from reproduce.data.glue import load_glue
from reproduce.data.languages import load_languages
from reproduce.data.texts import Dataset
from reproduce.data.texts import load_tables
from reproduce.flags import Count
from reproduce.flags import MaybeCount
from reproduce.flags import MaybeCountOrZero
from reproduce.flags import MaybeNotNegative
from reproduce.flags import MaybePath
from reproduce.flags import MaybePositive
from reproduce.flags import Rate
from reproduce.models.bert import encoder_of
from reproduce.schedules import WARM_UP
from reproduce.schedules import learning_rate
from reproduce.task import Run
from reproduce.task import Settings as CommonSettings
from reproduce.task import Task
from reproduce.task import recipe_of

# The larger of the two rates that the paper fine-tunes BERT with (A.4).
PRESET_LEARNING_RATE = 1e-5
SMALL_LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.01
DEFAULTS = {
    "texts": {"alpha": 5.0, "epochs": 38, "schedule": "cosine"},
    "glue": {"alpha": 1.0, "epochs": 10, "schedule": "linear"},
    "diabetes": {"alpha": 1.0, "epochs": 100, "schedule": "linear"},
}
# By a part of a recipe's name: the encoder.
ENCODERS = {"_bert_": "BertBackbone", "_roberta_": "RobertaBackbone"}
DEMO_TEXTS = ["Vereinigtes Königreich", "čtvrtek", "Нова Зеландия", "lunedì"]


@dataclass(frozen=True, kw_only=True)
class Settings(CommonSettings):
    """The flags of `train text_classification`."""

    alpha: MaybeNotNegative = None
    """Weight of the consistency, the paper's alpha; none: 1 for GLUE and
    diabetes, 5 for other data."""
    epochs: MaybeCount = None
    """How often to go through the training part; none: what --updates needs,
    or 10 for GLUE, 100 for diabetes, 38 for other data."""
    output: Path = Path("runs/text_classification")
    """The directory to write."""
    train: MaybePath = None
    """Own data: .tsv or .csv, UTF-8, with the columns text and label; none:
    names in 42 languages."""
    valid: MaybePath = None
    test: MaybePath = None
    glue_task: (
        Literal["mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb", "cola"]
        | None
    ) = None
    """The task of GLUE in --data."""
    data: MaybePath = None
    """The directory of GLUE's files of the task, or its parent."""
    task: Literal["diabetes"] | None = None
    """A regression instead of texts: scikit-learn's diabetes, with a small
    dense network."""
    preset: MaybePath = None
    """A BERT or RoBERTa as KerasHub's save_to_preset writes it, or as Hugging
    Face has it: config.json, model.safetensors and vocabulary; none: a small
    BERT with random weights."""
    sequence_length: MaybeCount = None
    """The maximum tokens of an example; none: 128 for GLUE, else that of the
    preset, or 16."""
    dropout: Rate = 0.1
    """The rate of all dropout layers."""
    batch_size: Count = 32
    """The rows of a batch."""
    learning_rate: MaybePositive = None
    """The highest learning rate; none: 1e-5 with --preset, else 1e-3."""
    schedule: Literal["cosine", "linear"] | None = None
    """The fall of the learning rate to 0; none: linear for GLUE and diabetes,
    else cosine."""
    warm_up: MaybeCountOrZero = None
    """Updates in which the learning rate rises; none: a twentieth."""

    @property
    def kind(self) -> str:
        """Which data they are for, a key of `DEFAULTS`."""
        return "glue" if self.glue_task else self.task or "texts"

    def resolved(self) -> Settings:
        """Returns the settings with the defaults of their data."""
        rate = PRESET_LEARNING_RATE if self.preset else SMALL_LEARNING_RATE
        length = 128 if self.glue_task else None
        defaults = {
            **DEFAULTS[self.kind],
            "learning_rate": rate,
            "sequence_length": length,
        }
        if self.updates and not self.epochs:
            defaults["epochs"] = None
        return dataclasses.replace(
            self,
            **{x: y for x, y in defaults.items() if getattr(self, x) is None},
        )

    def compared(self) -> dict[str, Any]:
        return super(Settings, self.resolved()).compared()


class TextClassification(Task):
    """Classifies texts, scores pairs of them, and a regression."""

    name = "text_classification"
    summary = "text classification with BERT, GLUE, a regression"
    settings = Settings
    score = ACCURACY
    packages = ("keras-hub", "scikit-learn")

    def recipe_settings(self, name: str) -> dict[str, Any]:
        recipe = recipe_of("language_understanding", name)
        return {
            "recipe": name,
            "glue_task": name.split("_")[1],
            "alpha": recipe.alpha,
            "dropout": recipe.dropout.rate,
            "batch_size": recipe.batch.per_update,
            "learning_rate": recipe.schedule.learning_rate,
            "warm_up": recipe.schedule.warmup_updates,
            "updates": recipe.schedule.total_updates,
            "schedule": "linear",
        }

    def check(self, settings: Settings) -> None:
        recipe = settings.recipe or ""
        tables = [settings.train, settings.valid, settings.test]
        if any(tables) and not all(tables):
            raise InputError("--train, --valid and --test come together.")
        if recipe and settings.glue_task != recipe.split("_")[1]:
            raise InputError(
                f"--recipe {recipe} is for --glue-task {recipe.split('_')[1]}, "
                f"not {settings.glue_task}."
            )
        if settings.glue_task and not settings.data:
            given = "--recipe" if recipe else "--glue-task"
            raise InputError(
                f"{given} needs --data DIR, where GLUE's files are."
            )
        if settings.data and not settings.glue_task:
            raise InputError("--data needs --glue-task, which says what it is.")
        if sum(map(bool, (any(tables), settings.data, settings.task))) > 1:
            raise InputError(
                "Give --train, --valid and --test, or --glue-task and --data, "
                "or --task."
            )
        if getattr(settings, "demo", False) and settings.kind != "texts":
            raise InputError("--demo is for languages, and for own tables.")
        if settings.task and settings.preset:
            raise InputError("--task diabetes has no text for --preset.")
        if "_roberta_" in recipe and not settings.preset:
            raise InputError(
                f"--recipe {recipe} needs --preset DIR, with a RoBERTa."
            )
        if recipe and settings.schedule == "cosine":
            raise InputError("--recipe has the linear schedule, not cosine.")
        if settings.epochs and settings.updates and not recipe:
            raise InputError("Give --epochs or --updates, not both.")
        if settings.sequence_length and settings.sequence_length < 4:
            raise InputError("--sequence-length: expected at least 4.")
        if settings.preset:
            encoder = encoder_of(settings.preset)
            for name, expected in ENCODERS.items():
                if name in recipe and encoder != expected:
                    raise InputError(
                        f"--preset {settings.preset}: expected a {expected}, "
                        f"got {encoder}. Give the encoder of {recipe}, or its "
                        "recipe for the other one."
                    )

    def load(self, settings: Settings) -> Dataset | Diabetes:
        if settings.glue_task:
            return load_glue(settings.glue_task, settings.data)
        if settings.task:
            return load_diabetes()
        if settings.train:
            return load_tables(settings.train, settings.valid, settings.test)
        return load_languages()

    def begin(self, data: Any, settings: Settings) -> Run:
        from reproduce.tasks.text_runs import DiabetesRun
        from reproduce.tasks.text_runs import TextRun

        kind = DiabetesRun if isinstance(data, Diabetes) else TextRun
        return kind(data, settings.resolved())

    def curve(self, data: Any) -> Score:
        if isinstance(data, Diabetes):
            return Score("mae", "mean absolute error")
        first = next(iter(suffixes(data.valid).values()))
        return Score(data.headline + first, data.headline)

    def title(self, data: Any, settings: Settings) -> str:
        alpha = settings.resolved().alpha
        return f"{data.name}, alpha {alpha:g}, dropout {settings.dropout:g}"

    def measures(self, data: Any) -> list[Measure]:
        if isinstance(data, Diabetes):
            return [
                Measure("valid", "loss", "validation MSE", digits=3),
                Measure("test", "loss", "test MSE", digits=3),
                Measure("test", "mae", "test MAE", digits=3),
            ]
        measures = [
            Measure(
                "valid", data.headline + end, f"{part} {data.headline}, %", 100
            )
            for part, end in suffixes(data.valid).items()
        ]
        if not isinstance(data, GlueDataset):
            measures += [
                Measure("test", "accuracy", "test accuracy, %", 100),
                Measure("test", "loss", "test loss, nats", digits=3),
            ]
        return measures

    def describe(self, data: Any) -> str:
        text = super().describe(data)
        return (
            f"{text}\n{data.report}" if isinstance(data, GlueDataset) else text
        )

    def report(self, metrics: dict[str, Any]) -> str:
        return "\n".join(
            f"{part}: "
            + ", ".join(
                f"{name.replace('_', ' ')} {value:.4f}"
                for name, value in metrics[part].items()
            )
            for part in ("valid", "test")
            if part in metrics
        )

    def samples(self, data: Any, output: Path) -> tuple[list[str], list[str]]:
        if data.name == "languages":
            return DEMO_TEXTS, []
        return list(next(iter(data.test.values())).first[:4]), []


def suffixes(parts: dict[str, Any]) -> dict[str, str]:
    """Returns the endings of the names of metrics, by part."""
    return {part: f"_{part}" if len(parts) > 1 else "" for part in parts}


def optimizer_of(
    settings: Settings, updates: int
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer for a number of updates.

    Args:
        settings: The settings. A recipe gives the optimizer, its clipping and
            weight decay; learning rate, warm-up and updates are those of the
            settings.
        updates: The number of updates.

    Raises:
        InputError: If the warm-up leaves no update to the decay.
    """
    warm_up = settings.warm_up
    if warm_up is not None and warm_up >= updates:
        raise InputError(
            f"--warm-up {warm_up}: expected fewer than the {updates} updates "
            "of the run. Lower it, or train for longer."
        )
    if settings.recipe is not None:
        if warm_up is None:
            warm_up = int(WARM_UP * updates)
        recipe = recipes.get(settings.recipe).replace(
            schedule={
                "learning_rate": settings.learning_rate,
                "warmup_updates": warm_up,
                "total_updates": updates,
            }
        )
        # The paper sums over two passes, which these arms average.
        return recipe.optimizer(summed_loss=settings.arm in TWO_PASSES)
    optimizer = keras.optimizers.AdamW(
        learning_rate(
            settings.schedule, settings.learning_rate, updates, warm_up
        ),
        weight_decay=WEIGHT_DECAY,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


TASK = TextClassification()
