"""The flags of the commands that use a finished run, and of generation."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from reproduce.common.flags import at_least
from reproduce.data.language_corpus import PARTS


def add_evaluate(commands: Any) -> None:
    """Adds the command that measures a text."""
    parser = commands.add_parser(
        "evaluate", help="measure the perplexity of a text"
    )
    _add_model_directory(parser)
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="UTF-8 text (default: the test part of the default corpus)",
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="as for train")
    parser.add_argument(
        "--part",
        choices=PARTS,
        default="test",
        help="of --data or of the default corpus (default: %(default)s)",
    )
    parser.add_argument(
        "--block-size",
        type=at_least(1),
        help="how many tokens the model sees at once (default: that of the "
        "training)",
    )
    parser.add_argument(
        "--context-window",
        type=at_least(0),
        help="how many of them are only looked at: tokens of the block before "
        "(default: that of the training)",
    )
    parser.add_argument(
        "--batch-size", type=at_least(1), default=8, help="(default: 8)"
    )


def add_generate(commands: Any) -> None:
    """Adds the command that goes on with a text."""
    parser = commands.add_parser("generate", help="go on with a text")
    _add_model_directory(parser)
    parser.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help="may be given several times (default: standard input, one "
        "prompt a line)",
    )
    add_sampling_flags(parser)


def _add_model_directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        metavar="DIR",
        help="the --output of a training",
    )


def add_sampling_flags(
    parser: argparse.ArgumentParser, **defaults: Any
) -> None:
    """Adds how to generate.

    Args:
        parser: Where to.
        **defaults: For a training: what to do by default. Without, the
            default is what the training was told.
    """
    group = parser.add_argument_group("generation")
    theirs = "" if defaults else "that of the training"
    for name, kind, text in (
        ("new_tokens", at_least(1), "how many tokens to go on for"),
        ("temperature", at_least(0.0), "0 is greedy"),
        ("top_k", at_least(0), "sample from so many tokens, 0 is all"),
        ("top_p", at_least(0.0), "sample from tokens of this probability"),
    ):
        default = defaults.get(name, 0 if defaults else None)
        group.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            default=default,
            help=f"{text} (default: {theirs or default})",
        )
    if not defaults:
        group.add_argument("--seed", type=at_least(0), help="(default: 0)")
