"""Text classification with BERT or RoBERTa, GLUE, and a regression."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reproduce.common.comparison import Measure
from reproduce.common.curves import ACCURACY
from reproduce.common.curves import Score
from reproduce.common.errors import InputError
from reproduce.data.debian import load_debian_sections
from reproduce.data.diabetes import Diabetes
from reproduce.data.diabetes import load_diabetes
from reproduce.data.glue import GlueDataset
from reproduce.data.glue import load_glue
from reproduce.data.languages import load_languages
from reproduce.data.texts import Dataset
from reproduce.data.texts import load_tables
from reproduce.models.bert import encoder_of
from reproduce.task import Run
from reproduce.task import Task
from reproduce.tasks.text_runs import DiabetesRun
from reproduce.tasks.text_runs import TextRun
from reproduce.tasks.text_runs import suffixes
from reproduce.tasks.text_settings import Settings

# The encoder for each part of a recipe's name.
ENCODERS = {"_bert_": "BertBackbone", "_roberta_": "RobertaBackbone"}
DEMO_TEXTS = ["Vereinigtes Königreich", "čtvrtek", "Нова Зеландия", "lunedì"]


class TextClassification(Task):
    """Classifies texts, scores pairs of them, and a regression."""

    name = "text_classification"
    recipes = "language_understanding"
    settings = Settings
    score = ACCURACY
    packages = ("keras-hub", "scikit-learn")

    def own_settings(self, recipe: Any) -> dict[str, Any]:
        return {
            "glue_task": recipe.name.split("_")[1],
            "batch_size": recipe.batch.per_update,
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
        if settings.corpus and not settings.data:
            raise InputError(
                "--corpus debian needs --data DIR, where its files are; see "
                "docs/datasets.md."
            )
        if settings.data and not (settings.glue_task or settings.corpus):
            raise InputError(
                "--data needs --glue-task, the name of its task, or --corpus."
            )
        if settings.train_texts and not settings.corpus:
            raise InputError("--train-texts is for --corpus debian.")
        given = (any(tables), settings.data, settings.task)
        both = settings.glue_task and settings.corpus
        if both or sum(map(bool, given)) > 1:
            raise InputError(
                "Give --train, --valid and --test, or --glue-task and --data, "
                "or --corpus and --data, or --task."
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
        if settings.corpus:
            return load_debian_sections(settings.data, settings.train_texts)
        if settings.task:
            return load_diabetes()
        if settings.train:
            return load_tables(settings.train, settings.valid, settings.test)
        return load_languages()

    def begin(self, data: Any, settings: Settings) -> Run:
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


TASK = TextClassification()
