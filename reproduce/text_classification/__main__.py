"""Text classification with a BERT encoder, plain and with R-Drop."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rdrop_keras import recipes
from reproduce.common import runs
from reproduce.common.compare import run_directory
from reproduce.common.errors import InputError
from reproduce.text_classification.compare import compare
from reproduce.text_classification.flags import DEFAULTS
from reproduce.text_classification.flags import parse
from reproduce.text_classification.glue import GlueDataset
from reproduce.text_classification.glue import load_glue
from reproduce.text_classification.languages import load_languages
from reproduce.text_classification.problems import AnyDataset
from reproduce.text_classification.problems import problem_of
from reproduce.text_classification.regression import load_diabetes
from reproduce.text_classification.settings import Settings
from reproduce.text_classification.tables import load_tables
from reproduce.text_classification.train import train

DEMO_TEXTS = ("Vereinigtes Königreich", "čtvrtek", "Нова Зеландия", "lunedì")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    try:
        flags = parse(arguments)
        dataset = _dataset(flags)
        print(", ".join(f"{k}: {v}" for k, v in dataset.facts().items()))
        if isinstance(dataset, GlueDataset):
            print(dataset.report)
        if flags.recipe and not flags.preset:
            pretrained = recipes.get(flags.recipe).model.pretrained
            print(f"small BERT, random weights; the paper's is {pretrained}")
        _run(dataset, flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _dataset(flags: argparse.Namespace) -> AnyDataset:
    if flags.glue_task:
        return load_glue(flags.glue_task, flags.data)
    if flags.task == "diabetes":
        return load_diabetes()
    if flags.train:
        return load_tables(flags.train, flags.valid, flags.test)
    return load_languages()


def _run(dataset: AnyDataset, flags: argparse.Namespace) -> None:
    settings = settings_of(dataset, flags)
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    if arms is None:
        metrics = train(dataset, settings, flags.output, flags.resume)
        print(problem_of(dataset).report(metrics))
        print(f"written to {flags.output}")
        return
    # One seed shows the way; a result takes several.
    default = DEFAULTS.seeds[:1] if flags.demo else DEFAULTS.seeds
    seeds = flags.seeds or default
    compare(dataset, settings, arms, seeds, flags.output, flags.resume)
    print(f"written to {flags.output}")
    if flags.demo:
        shown = run_directory(flags.output, arms[-1], seeds[0])
        _serve(shown / runs.SAVED_MODEL)


def settings_of(dataset: AnyDataset, flags: argparse.Namespace) -> Settings:
    """Returns what the flags say of a run."""
    epochs = flags.epochs
    if flags.updates is not None:
        # Whole ones, the last of which ends early.
        per_epoch = -(-len(dataset.train) // flags.batch_size)
        epochs = -(-flags.updates // per_epoch)
    return Settings(
        arm=flags.arm,
        alpha=flags.alpha,
        dropout=flags.dropout,
        seed=flags.seed,
        epochs=epochs,
        batch_size=flags.batch_size,
        learning_rate=flags.learning_rate,
        preset=str(flags.preset) if flags.preset else None,
        schedule=flags.schedule,
        warm_up=flags.warm_up,
        updates=flags.updates,
        recipe=flags.recipe,
        sequence_length=flags.sequence_length,
    )


def _serve(saved_model: Path) -> None:
    print(f"{saved_model}, in a process of its own:", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "reproduce.text_classification.serve",
            str(saved_model),
            *DEMO_TEXTS,
        ],
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
