"""Text classification with a BERT encoder, plain and with R-Drop."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from examples.common import runs
from examples.common.compare import run_directory
from examples.common.errors import InputError
from examples.common.flags import Defaults
from examples.common.flags import add_training_flags
from examples.text_classification.compare import compare
from examples.text_classification.data import Dataset
from examples.text_classification.languages import load_languages
from examples.text_classification.tables import load_tables
from examples.text_classification.train import Settings
from examples.text_classification.train import train

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
DEMO_TEXTS = ("Vereinigtes Königreich", "čtvrtek", "Нова Зеландия", "lunedì")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    tables = (flags.train, flags.valid, flags.test)
    if any(tables) and not all(tables):
        parser.error("--train, --valid and --test come together")
    try:
        dataset = _dataset(flags)
        print(", ".join(f"{k}: {v}" for k, v in dataset.facts().items()))
        _run(dataset, flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _dataset(flags: argparse.Namespace) -> Dataset:
    if flags.train:
        return load_tables(flags.train, flags.valid, flags.test)
    return load_languages()


def _run(dataset: Dataset, flags: argparse.Namespace) -> None:
    settings = _settings(flags)
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    if arms is None:
        metrics = train(dataset, settings, flags.output, flags.resume)
        for part in ("valid", "test"):
            print(
                f"{part}: accuracy {100 * metrics[part]['accuracy']:.2f} %, "
                f"loss {metrics[part]['loss']:.3f}"
            )
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


def _settings(flags: argparse.Namespace) -> Settings:
    learning_rate = flags.learning_rate
    if learning_rate is None:
        learning_rate = (
            PRESET_LEARNING_RATE if flags.preset else SMALL_LEARNING_RATE
        )
    return Settings(
        arm=flags.arm,
        alpha=flags.alpha,
        dropout=flags.dropout,
        seed=flags.seed,
        epochs=flags.epochs,
        batch_size=flags.batch_size,
        learning_rate=learning_rate,
        preset=str(flags.preset) if flags.preset else None,
    )


def _serve(saved_model: Path) -> None:
    print(f"{saved_model}, in a process of its own:", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "examples.text_classification.serve",
            str(saved_model),
            *DEMO_TEXTS,
        ],
        check=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.text_classification", description=__doc__
    )
    group = parser.add_argument_group("data (default: names in 42 languages)")
    for part in ("train", "valid", "test"):
        group.add_argument(
            f"--{part}",
            type=Path,
            metavar="FILE",
            help=".tsv or .csv, UTF-8: columns text and label, with or "
            "without a header",
        )
    group = parser.add_argument_group("model")
    group.add_argument(
        "--preset",
        type=Path,
        metavar="DIR",
        help="a BERT written by KerasHub's save_to_preset (default: a small "
        "one, trained from scratch)",
    )
    add_training_flags(parser, DEFAULTS)
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare on one seed, then classify a few texts in another "
        "process",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
