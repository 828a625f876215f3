"""Translation quality with tuned settings for each arm.

    python -m benchmarks.translation_study --output runs/translation_study

This is the study of docs/results/translation.md: `train translation` on its
default corpus, every arm with its own settings, on several seeds, until
validation BLEU stops rising. Twenty runs take hours on two cores; `--resume`
continues an interrupted study. The results are a plot and three tables: at
convergence, after equal numbers of epochs, and after equal time. The flag
`--seconds` gives the time of a step of each arm for the last table, measured by
`python -m benchmarks.inputs --programs translation`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import in_fresh_process
from reproduce.__main__ import main as reproduce
from reproduce.common import runs
from reproduce.common.comparison import Measure
from reproduce.common.comparison import print_summary
from reproduce.common.comparison import summarize
from reproduce.common.history import read_history
from reproduce.comparison import compare_arms
from reproduce.comparison import run_directory
from reproduce.outputs import claimed
from reproduce.tasks.translation import MEASURES
from reproduce.tasks.translation import TASK

# Learning rate and dropout, selected by the search on seed 11.
CHOSEN = {
    "plain": ("4e-3", "0.2"),
    "doubled": ("4e-3", "0.3"),
    "two_pass": ("4e-3", "0.2"),
    "rdrop": ("4e-3", "0.1"),
}
EPOCHS = (60, 100, 200)


def train(arm: str, seed: int, directory: Path, more: list[str]) -> Any:
    """Trains one run by its command line, and returns its metrics."""
    learning_rate, dropout = CHOSEN[arm]
    arguments = ["train", "translation", "--arm", arm, "--seed", str(seed)]
    arguments += ["--learning-rate", learning_rate, "--dropout", dropout]
    arguments += ["--output", str(directory), "--resume", *more]
    if in_fresh_process(reproduce, arguments):
        raise RuntimeError(f"{arm}, seed {seed}: no run came of it.")
    return runs.read_json(directory / runs.METRICS)


def best_until(
    output: Path,
    arms: Sequence[str],
    seeds: Sequence[int],
    epochs: Mapping[int, Mapping[str, int]],
) -> dict[str, list[dict[str, Any]]]:
    """Returns the best greedy validation BLEU of each run up to some epochs.

    Args:
        output: The directory of the comparison.
        arms: The arms.
        seeds: The seeds.
        epochs: The last epoch of each arm, for each column.
    """

    def best(arm: str, seed: int) -> dict[str, Any]:
        history = read_history(run_directory(output, arm, seed) / runs.HISTORY)
        curve = history["val_bleu"]
        found = {
            str(column): max(value for epoch, value in curve if epoch <= last)
            for column, last in ((c, e[arm]) for c, e in epochs.items())
        }
        return {"valid": found}

    return {arm: [best(arm, seed) for seed in seeds] for arm in arms}


def in_equal_time(
    epochs: int, seconds: Mapping[str, float], every: int
) -> dict[str, int]:
    """Returns the number of epochs of each arm in the time of plain epochs.

    Args:
        epochs: The number of plain epochs.
        seconds: The seconds of a step of each arm.
        every: The multiple to round to.
    """
    return {
        arm: max(round(epochs * seconds["plain"] / each / every), 1) * every
        for arm, each in seconds.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the missing runs, and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--output", type=Path, default=Path("runs/translation_study"))
    add("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    add("--arms", nargs="+", choices=list(CHOSEN), default=list(CHOSEN))
    add("--epochs", type=int, nargs="+", default=list(EPOCHS))
    add("--validate-every", type=int, default=5)
    add("--train-pairs", type=int, default=600)
    add(
        "--seconds",
        type=float,
        nargs="+",
        default=[12.2, 36.5, 22.5, 21.1],
        help="of a step of each of --arms, in any unit",
    )
    add("--resume", action="store_true", help="go on with what is there")
    flags = parser.parse_args(arguments)
    every = flags.validate_every
    more = ["--epochs", str(max(flags.epochs)), "--patience", "10"]
    more += ["--validate-every", str(every)]
    more += ["--train-pairs", str(flags.train_pairs)]
    arms, seeds = tuple(flags.arms), tuple(flags.seeds)
    settings = {"chosen": CHOSEN, "more": more}
    asked = settings | {"arm": arms, "seed": seeds}
    program = "benchmarks.translation_study"
    with claimed(flags.output, program, asked, flags.resume):
        compare_arms(
            lambda arm, seed, directory: train(arm, seed, directory, more),
            settings,
            arms,
            seeds,
            flags.output,
            MEASURES,
            "each arm with its own learning rate and dropout",
            TASK.score,
        )
    seconds = dict(zip(arms, flags.seconds, strict=True))
    equal = {last: dict.fromkeys(arms, last) for last in flags.epochs}
    show(flags.output, seeds, equal, "equal epochs")
    equal = {e: in_equal_time(e, seconds, every) for e in flags.epochs}
    print(f"epochs in the time of so many plain ones: {equal}")
    show(flags.output, seeds, equal, "the time of so many plain epochs")


def show(
    output: Path,
    seeds: Sequence[int],
    epochs: Mapping[int, Mapping[str, int]],
    title: str,
) -> None:
    """Prints a table of the best validation BLEU up to some epochs."""
    arms = list(next(iter(epochs.values())))
    found = best_until(output, arms, seeds, epochs)
    measures = [Measure("valid", str(c), f"BLEU, {c}") for c in epochs]
    print_summary(
        summarize(found, measures),
        measures,
        f"best greedy validation BLEU, {title}",
    )


if __name__ == "__main__":
    main()
