"""The command line of the text classification example."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reproduce.common.flags import Defaults
from reproduce.common.flags import add_training_flags
from reproduce.common.flags import at_least
from reproduce.text_classification.glue_tasks import GLUE_TASKS
from reproduce.text_classification.optimizers import SCHEDULES
from reproduce.text_classification.recipe import recipe_flags

# Those of the default data; other data have others, see `data_flags`.
DEFAULTS = Defaults(
    alpha=5.0,
    dropout=0.1,
    epochs=38,
    batch_size=32,
    seeds=(1, 2, 3),
    output="runs/text_classification",
)
# The larger of the two that the paper fine-tunes BERT with (appendix A.4).
PRESET_LEARNING_RATE = 1e-5
SMALL_LEARNING_RATE = 1e-3
TABLES = ("train", "valid", "test")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    What a flag does not say is said by the recipe, if there is one, and then
    by the data.

    Raises:
        InputError: If there is no such recipe for GLUE.
    """
    parser = _parser()
    # Not the parser's own defaults: a recipe goes before them.
    flags = parser.parse_args(
        arguments, argparse.Namespace(**dict.fromkeys(data_flags("text")))
    )
    recipe = recipe_flags(flags.recipe) if flags.recipe is not None else {}
    _check_data(parser, flags, recipe)
    if flags.epochs is not None and flags.updates is not None:
        parser.error("give --epochs or --updates, not both")
    if flags.epochs is not None:
        recipe.pop("updates", None)
    flags.glue_task = recipe.get("glue_task", flags.glue_task)
    data = "glue" if flags.glue_task else flags.task or "text"
    for name, value in (data_flags(data) | recipe).items():
        if getattr(flags, name) is None:
            setattr(flags, name, value)
    if flags.learning_rate is None:
        flags.learning_rate = (
            PRESET_LEARNING_RATE if flags.preset else SMALL_LEARNING_RATE
        )
    return flags


def data_flags(data: str) -> dict[str, Any]:
    """Returns what the flags that depend on the data are by default.

    Args:
        data: `"text"`, `"glue"` or `"diabetes"`.
    """
    text = {
        "alpha": DEFAULTS.alpha,
        "dropout": DEFAULTS.dropout,
        "epochs": DEFAULTS.epochs,
        "batch_size": DEFAULTS.batch_size,
        "schedule": "cosine",
    }
    changes = {
        "text": {},
        "glue": {"alpha": 1.0, "epochs": 10, "schedule": "linear"},
        "diabetes": {"alpha": 1.0, "epochs": 100, "schedule": "linear"},
    }
    return text | changes[data]


def _check_data(
    parser: argparse.ArgumentParser,
    flags: argparse.Namespace,
    recipe: dict[str, Any],
) -> None:
    tables = [getattr(flags, part) for part in TABLES]
    if any(tables) and not all(tables):
        parser.error("--train, --valid and --test come together")
    if flags.glue_task and recipe and flags.glue_task != recipe["glue_task"]:
        parser.error(
            f"--recipe {flags.recipe} is for --glue-task "
            f"{recipe['glue_task']}, not {flags.glue_task}"
        )
    is_glue = flags.glue_task is not None or flags.recipe is not None
    if is_glue and flags.data is None:
        given = "--recipe" if flags.recipe else "--glue-task"
        parser.error(f"{given} needs --data DIR, where GLUE's files are")
    if flags.data is not None and not is_glue:
        parser.error("--data needs --glue-task, which says what is in it")
    if sum((any(tables), is_glue, flags.task is not None)) > 1:
        parser.error(
            "give --train, --valid and --test, or --glue-task and --data, or "
            "--task"
        )
    if flags.demo and (is_glue or flags.task is not None):
        parser.error("--demo is for languages, and for --train and its like")
    if flags.task is not None and flags.preset is not None:
        parser.error(f"--task {flags.task} has no text for --preset to read")
    if flags.sequence_length is not None and not is_glue:
        parser.error("--sequence-length is for --glue-task")
    if "roberta" in (flags.recipe or "") and flags.preset is None:
        parser.error(
            f"--recipe {flags.recipe} needs --preset DIR, with a RoBERTa"
        )
    if flags.recipe is not None and flags.schedule == "cosine":
        parser.error("--recipe has the linear schedule, not cosine")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.text_classification",
        description="Text classification with a BERT encoder, plain and with "
        "R-Drop",
    )
    _add_data_flags(parser)
    group = parser.add_argument_group("model")
    group.add_argument(
        "--preset",
        type=Path,
        metavar="DIR",
        help="a BERT or RoBERTa written by KerasHub's save_to_preset, or as "
        "Hugging Face has it: config.json, model.safetensors and its "
        "vocabulary (default: a small BERT, trained from scratch)",
    )
    group.add_argument(
        "--sequence-length",
        type=at_least(4),
        metavar="TOKENS",
        help="cut the examples of GLUE there (default: 128)",
    )
    add_training_flags(parser, DEFAULTS)
    group = parser.add_argument_group("schedule")
    group.add_argument(
        "--schedule",
        choices=list(SCHEDULES),
        help="after the warm-up; "
        + "; ".join(f"{name}: {text}" for name, text in SCHEDULES.items())
        + " (default: cosine, linear for GLUE and diabetes)",
    )
    group.add_argument(
        "--warm-up",
        type=at_least(0),
        metavar="UPDATES",
        help="updates in which the learning rate rises (default: 5 %% of all)",
    )
    group.add_argument(
        "--updates",
        type=at_least(1),
        help="train for so many updates in place of --epochs",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare on one seed, then classify a few texts in another "
        "process",
    )
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data (default: names in 42 languages)")
    for part in TABLES:
        group.add_argument(
            f"--{part}",
            type=Path,
            metavar="FILE",
            help=".tsv or .csv, UTF-8: columns text and label, with or "
            "without a header",
        )
    group.add_argument(
        "--glue-task",
        choices=list(GLUE_TASKS),
        help="a task of GLUE, to be given by --data",
    )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="the directory with the files of the task, as GLUE publishes "
        "them, or the one that holds it",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="the paper's configuration for a task of GLUE, to be given by "
        "--data: glue_TASK_bert_base or glue_TASK_roberta_large. Other flags "
        "change it",
    )
    group.add_argument(
        "--task",
        choices=["diabetes"],
        help="regression in place of texts: scikit-learn's diabetes, with a "
        "small dense network",
    )
