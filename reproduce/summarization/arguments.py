"""The flags of the summarization example, group by group."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reproduce.common.flags import Defaults
from reproduce.common.flags import add_training_flags
from reproduce.common.flags import at_least
from reproduce.common.flags import rate
from reproduce.common.text_flags import add_choice_flags
from reproduce.common.text_flags import add_computation_flags
from reproduce.common.text_flags import add_max_tokens
from reproduce.common.text_flags import add_recipe
from reproduce.common.text_flags import add_train_pairs
from reproduce.common.text_flags import add_update_flags
from reproduce.common.text_flags import add_using_commands
from reproduce.summarization.decoding import Decoding
from reproduce.summarization.model import CONFIGURATIONS
from reproduce.summarization.settings import POLICIES

TRAIN_PAIRS = 4000


def parsers(
    defaults: Defaults,
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Returns the parser, and that of its command `train`."""
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.summarization",
        description="Summarization with BART, plain and with R-Drop",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train", help="train, score, save and export a summarizer"
    )
    _add_data_flags(train)
    _add_model_flags(train)
    add_training_flags(train, defaults)
    _add_schedule_flags(train)
    _add_choice_flags(train)
    _add_decoding_flags(train, Decoding())
    for command in add_using_commands(
        commands, "summarize", "lines", "article", "ROUGE"
    ):
        _add_decoding_flags(command, None)
    return parser, train


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "data (default: docstrings of installed packages, no download)"
    )
    for part in ("train", "valid", "test"):
        for side, text in (("source", "article"), ("target", "summary")):
            group.add_argument(
                f"--{part}-{side}",
                type=Path,
                metavar="FILE",
                help=f"UTF-8, one {text} a line",
            )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a directory of train.source, train.target, val.source ..., or of "
        "CNN/DailyMail's stories with url_lists/all_train.txt ...; with --tfds "
        "the directory where that was prepared",
    )
    group.add_argument(
        "--tfds",
        metavar="NAME",
        help="a data set of tensorflow-datasets, cnn_dailymail for instance",
    )
    add_train_pairs(group, TRAIN_PAIRS)
    add_recipe(group, "summarization", "one of its datasets")


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument(
        "--preset",
        metavar="PRESET",
        help="start from a pre-trained BART: a directory in KerasHub's or "
        "Hugging Face's layout, or a name that KerasHub downloads",
    )
    group.add_argument(
        "--configuration",
        choices=list(CONFIGURATIONS),
        help="the size of a BART from scratch (default: tiny)",
    )
    group.add_argument(
        "--vocabulary-size",
        type=at_least(1),
        default=2000,
        help="how many subwords, without --preset (default: %(default)s)",
    )
    for side, default in (("source", 48), ("target", 32)):
        group.add_argument(
            f"--max-{side}-length",
            type=at_least(3),
            default=default,
            metavar="TOKENS",
            help="cut off what is more (default: %(default)s)",
        )


def _add_schedule_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batches and schedule")
    add_max_tokens(group, 1024)
    add_update_flags(group, 100, 0.01, least_warm_up=0)
    group.add_argument(
        "--power",
        type=at_least(0.0),
        default=1.0,
        help="of the polynomial by which the learning rate falls to 0 "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--clip-norm",
        type=at_least(0.0),
        default=0.1,
        help="the largest norm of the whole gradient; 0 for any (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--summed-loss",
        action="store_true",
        help="make the updates of the paper's loss, which is a sum over the "
        "passes, with half the clipping norm and epsilon (recipes do)",
    )
    group.add_argument(
        "--label-smoothing", type=rate, default=0.1, help="(default: 0.1)"
    )
    add_computation_flags(group, POLICIES, "summary positions")


def _add_choice_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("choice of weights")
    add_choice_flags(group, "ROUGE-L", "summarize", every=2)
    group.add_argument(
        "--validate-on",
        type=at_least(1),
        metavar="N",
        help="summarize its first N articles then (default: all)",
    )
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare plain and rdrop on one seed, then summarize a few "
        "articles in another process",
    )


def _add_decoding_flags(
    parser: argparse.ArgumentParser, defaults: Decoding | None
) -> None:
    group = parser.add_argument_group("decoding")
    theirs = "%(default)s" if defaults else "that of the training"

    def add(name: str, kind: Any, text: str) -> None:
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=getattr(defaults, name, None),
            help=f"{text} (default: {theirs})",
        )

    add("beam_size", at_least(1), "1 is greedy")
    add(
        "length_penalty",
        float,
        "the power of the length by which scores are divided",
    )
    add("min_length", at_least(0), "the fewest tokens of a summary, <s> too")
    add("max_length", at_least(1), "the most tokens of a summary, <s> too")
    add(
        "no_repeat_ngram_size",
        at_least(0),
        "no run of so many tokens is in a summary twice; 0 allows all",
    )
    group.add_argument(
        "--decoding-batch",
        type=at_least(1),
        default=32,
        metavar="ARTICLES",
        help="summarize so many at a time (default: %(default)s)",
    )
