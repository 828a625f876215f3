"""A training step with R-Drop, compared with a plain step on twice the batch.

    python -m benchmarks.step --output results

The arms are a plain Keras step; a plain step on the batch repeated twice, the
paper's reference for the cost of R-Drop; a usual Keras implementation of
R-Drop, with `keras.losses.kl_divergence` of probabilities in a custom step;
this library's step with several settings; and, if PyTorch is installed, the
formula of the paper's authors in PyTorch, eager and compiled, for the same
model with the same weights. The arms take turns, step by step in one process.
Compilation is not timed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import keras
import numpy as np

from benchmarks.arms import ALIKE
from benchmarks.arms import ARMS
from benchmarks.arms import DOUBLED
from benchmarks.arms import TORCH_COMPILED
from benchmarks.arms import Step
from benchmarks.arms import Unavailable
from benchmarks.arms import arms_of
from benchmarks.arms import step_of
from benchmarks.harness import JIT
from benchmarks.harness import parse
from benchmarks.harness import parser_of
from benchmarks.harness import take_turns
from benchmarks.models import CASES
from benchmarks.models import Case
from benchmarks.models import case_of
from benchmarks.report import Report

QUICK = {
    "repeats": 2,
    "models": ["transformer-8k", "cnn"],
    "jit": "off",
    "arms": [arm for arm in ARMS if arm != TORCH_COMPILED],
}


def measure(
    report: Report,
    name: str,
    case: Case,
    arms: Sequence[str],
    base: str,
    jit_compile: bool,
    repeats: int,
) -> None:
    """Times the steps of a model and adds them to a report.

    Args:
        report: The report.
        name: The name of the model in the report.
        case: The model.
        arms: The arms to measure. Those that do not apply are left out.
        base: The arm that is the base of the ratios.
        jit_compile: Whether XLA compiles the steps.
        repeats: The number of turns of each arm.
    """
    keras.utils.clear_session()
    steps: dict[str, Step] = {}
    for arm in arms_of(case):
        if arm not in arms:
            continue
        try:
            steps[arm] = step_of(case, arm, jit_compile)
        except Unavailable as reason:
            report.skip(name, arm, str(reason))
    losses = {arm: step() for arm, step in steps.items()}
    check_alike({arm: losses[arm] for arm in ALIKE if arm in losses})
    seconds = take_turns(steps, repeats)
    facts = {arm: {"first_loss": loss} for arm, loss in losses.items()}
    report.add(name, jit_compile, base, seconds, facts)


def check_alike(losses: dict[str, float]) -> None:
    """Raises an error if the arms have different losses.

    Different losses would mean different objectives.
    """
    for arm, loss in losses.items():
        np.testing.assert_allclose(
            loss,
            next(iter(losses.values())),
            rtol=1e-3,
            err_msg=f"The loss of {arm} is not that of {next(iter(losses))}.",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a table, writes JSON and a plot."""
    parser = parser_of(__doc__, repeats=20)
    add_arms(parser, list(CASES), list(ARMS))
    parser.add_argument(
        "--label-smoothing", type=float, default=0.0, help="of translation"
    )
    flags = parse(parser, arguments, QUICK)
    report = Report("step", "time of a training step", "seconds", flags)
    arms = flags.arms if DOUBLED in flags.arms else [DOUBLED, *flags.arms]
    for name in flags.models:
        for jit_compile in JIT[flags.jit]:
            case = case_of(name, flags.quick, flags.label_smoothing)
            measure(
                report, name, case, arms, DOUBLED, jit_compile, flags.repeats
            )
    report.finish()


def add_arms(
    parser: argparse.ArgumentParser,
    models: list[str],
    arms: list[str],
    choices: Sequence[str] = ARMS,
) -> None:
    """Adds flags that select models and arms.

    Args:
        parser: The parser.
        models: The default models.
        arms: The default arms.
        choices: The arms to choose from.
    """
    add = parser.add_argument
    add("--models", nargs="+", choices=list(CASES), default=models)
    add("--arms", nargs="+", choices=list(choices), default=arms)


if __name__ == "__main__":
    main()
