"""The flags of the summarization example, group by group."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from examples.common.flags import Defaults
from examples.common.flags import add_choice_flags
from examples.common.flags import add_training_flags
from examples.common.flags import add_vocabulary_chunk
from examples.common.flags import at_least
from examples.common.flags import rate
from examples.summarization.decoding import Decoding
from examples.summarization.model import CONFIGURATIONS
from examples.summarization.settings import POLICIES
from rdrop_keras import recipes

TRAIN_PAIRS = 4000


def parsers(
    defaults: Defaults,
) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Returns the parser, and that of its command `train`."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.summarization",
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
    for name, text in (
        ("summarize", "summarize lines"),
        ("score", "summarize a file and score it with ROUGE"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--model",
            type=Path,
            required=True,
            metavar="DIR",
            help="the --output of a training",
        )
        _add_decoding_flags(command, None)
        if name == "summarize":
            command.add_argument(
                "--source",
                type=Path,
                metavar="FILE",
                help="one article a line (default: standard input)",
            )
        else:
            for side in ("source", "reference"):
                command.add_argument(
                    f"--{side}", type=Path, required=True, metavar="FILE"
                )
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
    group.add_argument(
        "--train-pairs",
        type=at_least(1),
        default=TRAIN_PAIRS,
        help="how many training pairs of the default corpus to use "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--recipe",
        metavar="NAME",
        help="the paper's configuration for one of its datasets, to be given "
        "by --data: "
        + ", ".join(recipes.names("summarization"))
        + ". Other flags change it",
    )


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
    group.add_argument(
        "--max-tokens",
        type=at_least(1),
        default=1024,
        help="the most tokens of a side of a batch, padding included "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--accumulate",
        type=at_least(1),
        default=1,
        help="batches in an update (default: %(default)s)",
    )
    group.add_argument(
        "--updates",
        type=at_least(1),
        help="train for at least so many updates, in whole epochs, in place "
        "of --epochs",
    )
    group.add_argument(
        "--warm-up",
        type=at_least(0),
        default=100,
        help="updates in which the learning rate rises (default: %(default)s)",
    )
    group.add_argument(
        "--power",
        type=at_least(0.0),
        default=1.0,
        help="of the polynomial by which the learning rate falls to 0 "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--weight-decay",
        type=at_least(0.0),
        default=0.01,
        help="(default: %(default)s)",
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
    group.add_argument(
        "--mixed-precision",
        choices=list(POLICIES),
        help="compute in half precision (default: no)",
    )
    group.add_argument(
        "--jit-compile",
        choices=["auto", "yes", "no"],
        default="auto",
        help="compile the training step by XLA (default: on a GPU)",
    )
    add_vocabulary_chunk(group, "summary positions")


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
