"""Command-line flags that the programs for text have alike."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rdrop_keras import recipes
from reproduce.common.flags import add_update_counts
from reproduce.common.flags import at_least


def add_recipe(group: Any, task: str, datasets: str) -> None:
    """Adds --recipe.

    Args:
        group: Where to.
        task: Whose recipes there are to choose from.
        datasets: What they are for.
    """
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help=f"the paper's configuration for {datasets}, to be given by "
        "--data: " + ", ".join(recipes.names(task)) + ". Other flags change it",
    )


def add_train_pairs(group: Any, pairs: int) -> None:
    """Adds --train-pairs, with its default."""
    group.add_argument(
        "--train-pairs",
        type=at_least(1),
        default=pairs,
        help="how many training pairs of the default corpus to use "
        "(default: %(default)s)",
    )


def add_max_tokens(group: Any, tokens: int) -> None:
    """Adds --max-tokens, with its default."""
    group.add_argument(
        "--max-tokens",
        type=at_least(1),
        default=tokens,
        help="the most tokens of a side of a batch, padding included "
        "(default: %(default)s)",
    )


def add_update_flags(
    group: Any, warm_up: int, weight_decay: float, least_warm_up: int = 1
) -> None:
    """Adds --accumulate, --updates, --warm-up and --weight-decay.

    Args:
        group: Where to.
        warm_up: The default.
        weight_decay: The default.
        least_warm_up: The fewest updates of warm-up that the schedule takes.
    """
    add_update_counts(group)
    group.add_argument(
        "--warm-up",
        type=at_least(least_warm_up),
        default=warm_up,
        help="updates in which the learning rate rises (default: %(default)s)",
    )
    group.add_argument(
        "--weight-decay",
        type=at_least(0.0),
        default=weight_decay,
        help="(default: %(default)s)",
    )


def add_computation_flags(
    group: Any, policies: Iterable[str], positions: str
) -> None:
    """Adds --mixed-precision, --jit-compile and --vocabulary-chunk.

    Args:
        group: Where to.
        policies: What there is of the first.
        positions: What the logits are of.
    """
    group.add_argument(
        "--mixed-precision",
        choices=list(policies),
        help="compute in half precision (default: no)",
    )
    group.add_argument(
        "--jit-compile",
        choices=["auto", "yes", "no"],
        default="auto",
        help="compile the training step by XLA (default: on a GPU)",
    )
    group.add_argument(
        "--vocabulary-chunk",
        type=_chunk,
        metavar="TOKENS",
        help=f"hold the logits of so many {positions} at a time in training "
        "with several passes, or 'auto' (default: of all)",
    )


def add_choice_flags(group: Any, score: str, verb: str, every: int) -> None:
    """Adds --validate-every, --patience and --average.

    Args:
        group: Where to.
        score: By what weights are chosen.
        verb: What is done to the validation part for it.
        every: After how many epochs, by default.
    """
    group.add_argument(
        "--validate-every",
        type=at_least(1),
        default=every,
        metavar="EPOCHS",
        help=f"{verb} the validation part so often (default: %(default)s)",
    )
    group.add_argument(
        "--patience",
        type=at_least(1),
        help=f"stop after so many validations without a better {score} "
        "(default: never)",
    )
    group.add_argument(
        "--average",
        type=at_least(0),
        default=0,
        metavar="N",
        help="average the weights of the last N validated epochs (default: "
        f"take those of the best validation {score})",
    )


def add_using_commands(
    commands: Any, verb: str, rest: str, document: str, score: str
) -> list[argparse.ArgumentParser]:
    """Adds the commands that use a trained model, and returns them.

    Args:
        commands: Where to.
        verb: The first of them.
        rest: What its help adds to the verb.
        document: What each line of its input is.
        score: By what the other, `score`, compares with references.
    """
    use = commands.add_parser(verb, help=f"{verb} {rest}")
    measure = commands.add_parser(
        "score", help=f"{verb} a file and score it with {score}"
    )
    for command in (use, measure):
        command.add_argument(
            "--model",
            type=Path,
            required=True,
            metavar="DIR",
            help="the --output of a training",
        )
    use.add_argument(
        "--source",
        type=Path,
        metavar="FILE",
        help=f"one {document} a line (default: standard input)",
    )
    for side in ("source", "reference"):
        measure.add_argument(
            f"--{side}", type=Path, required=True, metavar="FILE"
        )
    return [use, measure]


def _chunk(text: str) -> int | str:
    return text if text == "auto" else at_least(1)(text)
