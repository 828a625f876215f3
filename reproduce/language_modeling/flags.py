"""The command line of the language modelling example."""

from __future__ import annotations

import argparse
from pathlib import Path

from reproduce.common.flags import Defaults
from reproduce.common.flags import add_training_flags
from reproduce.common.flags import at_least
from reproduce.common.flags import rate
from reproduce.common.text_flags import add_computation_flags
from reproduce.common.text_flags import add_recipe
from reproduce.common.text_flags import add_update_flags
from reproduce.data.language_corpus import PARTS
from reproduce.data.vocabulary import KINDS
from reproduce.language_modeling.recipe import recipe_flags
from reproduce.language_modeling.run_flags import add_evaluate
from reproduce.language_modeling.run_flags import add_generate
from reproduce.language_modeling.run_flags import add_sampling_flags
from reproduce.language_modeling.settings import OPTIMIZERS
from reproduce.language_modeling.settings import POLICIES
from reproduce.language_modeling.settings import SCHEDULES
from reproduce.models.language_sizes import CONFIGURATIONS

DEFAULTS = Defaults(
    alpha=1.0,
    dropout=None,
    epochs=16,
    batch_size=8,
    seeds=(1, 2, 3),
    output="runs/language_modeling",
)
VOCABULARY_SIZE = 1000
# So few that a tiny model over-fits them: what R-Drop is there for.
TRAIN_WORDS = 16_000
RATES = (
    "dropout",
    "attention_dropout",
    "activation_dropout",
    "softmax_dropout",
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    A recipe sets the defaults of all flags that it has something to say about.

    Raises:
        InputError: If there is no such recipe for language modelling.
    """
    parser, train = _parsers()
    flags = parser.parse_args(arguments)
    if flags.command == "train" and flags.recipe is not None:
        if flags.data is None:
            parser.error("--recipe needs --data DIR, where its dataset is")
        train.set_defaults(**recipe_flags(flags.recipe))
        flags = parser.parse_args(arguments)
    if flags.command == "train":
        _check_train(parser, flags)
    if flags.command == "evaluate" and flags.text and flags.data:
        parser.error("give --text or --data")
    return flags


def _check_train(
    parser: argparse.ArgumentParser, flags: argparse.Namespace
) -> None:
    if bool(flags.train) != bool(flags.valid):
        parser.error("--train and --valid come together")
    if flags.test and not flags.train:
        parser.error("--test needs --train")
    if flags.train and flags.data:
        parser.error("give --train and --valid, or --data")
    if flags.context_window >= flags.block_size:
        parser.error("--context-window has to be less than --block-size")
    if (
        flags.cutoffs is not None
        and CONFIGURATIONS[flags.configuration].cutoffs is None
    ):
        parser.error("--cutoffs is for configurations with adaptive softmax")
    if flags.vocabulary == "words" and flags.vocabulary_size == 0:
        flags.vocabulary_size = None


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.language_modeling",
        description="Language modelling with a Transformer, plain and with "
        "R-Drop",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train", help="train, measure, save and export a language model"
    )
    _add_data_flags(train)
    _add_model_flags(train)
    add_training_flags(train, DEFAULTS)
    _add_more_training_flags(train)
    add_evaluate(commands)
    add_generate(commands)
    return parser, train


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "data (default: CPython's reference topics, no download)"
    )
    for part in PARTS:
        group.add_argument(
            f"--{part}", type=Path, metavar="FILE", help="UTF-8 text"
        )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a directory of wiki.train.tokens, wiki.valid.tokens and "
        "wiki.test.tokens, as WikiText is published",
    )
    group.add_argument(
        "--train-words",
        type=at_least(1),
        default=TRAIN_WORDS,
        help="how many words of the default corpus to train on "
        "(default: %(default)s)",
    )
    add_recipe(group, "language_modeling", "WikiText-103")
    group.add_argument(
        "--vocabulary",
        choices=KINDS,
        default="subwords",
        help="learned from the training part (default: %(default)s)",
    )
    group.add_argument(
        "--vocabulary-size",
        type=at_least(0),
        default=VOCABULARY_SIZE,
        help="how many, or 0 for all words (default: %(default)s)",
    )


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--configuration",
        choices=list(CONFIGURATIONS),
        default="tiny",
        help="its size (default: %(default)s)",
    )
    for name in RATES[1:]:
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=rate,
            help="(default: the configuration's)",
        )
    group.add_argument(
        "--cutoffs",
        type=_cutoffs,
        metavar="N,N",
        help="where the clusters of an adaptive softmax begin (default: the "
        "configuration's)",
    )
    group.add_argument(
        "--block-size",
        type=at_least(1),
        default=64,
        help="how many tokens the model sees at once (default: %(default)s)",
    )
    group.add_argument(
        "--context-window",
        type=at_least(0),
        default=0,
        help="in validation and test, how many of them are only looked at: "
        "tokens of the block before (default: %(default)s)",
    )


def _add_more_training_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batches and schedule")
    add_update_flags(group, warm_up=200, weight_decay=0.01)
    group.add_argument(
        "--optimizer",
        choices=OPTIMIZERS,
        default="adam",
        help="(default: adam)",
    )
    group.add_argument(
        "--schedule",
        choices=SCHEDULES,
        default="inverse_square_root",
        help="of the learning rate, after the warm-up (default: %(default)s)",
    )
    for name, default, text in (
        ("initial", 1e-7, "that of the first update"),
        ("end", 0.0, "that of the last update, of a cosine"),
    ):
        group.add_argument(
            f"--{name}-learning-rate",
            type=at_least(0.0),
            default=default,
            help=f"{text} (default: %(default)s)",
        )
    group.add_argument(
        "--momentum",
        type=rate,
        default=0.99,
        help="of Nesterov's (default: %(default)s)",
    )
    group.add_argument(
        "--clip-norm",
        type=at_least(0.0),
        help="the largest norm of the gradient (default: none)",
    )
    group.add_argument(
        "--summed-loss",
        action="store_true",
        help="with several passes, make the updates of the paper's loss, the "
        "sum over passes; recipes do",
    )
    group.add_argument(
        "--patience",
        type=at_least(1),
        help="stop after so many epochs without a better validation loss "
        "(default: never)",
    )
    add_computation_flags(group, POLICIES, "tokens")
    add_sampling_flags(parser, new_tokens=40, temperature=0.8, top_p=0.95)
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare plain and rdrop on one seed, then go on with a few "
        "prompts in another process",
    )


def _cutoffs(text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(number) for number in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < 1 or list(found) != sorted(set(found)):
        raise argparse.ArgumentTypeError(
            f"expected ascending whole numbers, got {text}"
        )
    return found
