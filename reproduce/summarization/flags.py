"""The command line of the summarization example."""

from __future__ import annotations

import argparse

from reproduce.common.flags import Defaults
from reproduce.summarization.arguments import parsers
from reproduce.summarization.recipe import recipe_flags

DEFAULTS = Defaults(
    alpha=0.7,
    dropout=None,
    epochs=8,
    batch_size=None,
    seeds=(1, 2, 3),
    output="runs/summarization",
)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    A recipe sets the defaults of all flags that it has something to say about.

    Raises:
        InputError: If there is no such recipe for summarization.
    """
    parser, train = parsers(DEFAULTS)
    flags = parser.parse_args(arguments)
    if flags.command != "train":
        return flags
    if flags.recipe is not None:
        changes = recipe_flags(flags.recipe)
        if not (flags.data or flags.tfds or flags.train_source):
            parser.error("--recipe needs --data DIR, where its dataset is")
        if flags.preset is None and flags.configuration is None:
            parser.error(
                "--recipe needs --preset, the BART to start from "
                "(bart_large_en, or a directory), or --configuration, to train "
                "one from scratch"
            )
        train.set_defaults(**changes)
        flags = parser.parse_args(arguments)
    _check(parser, flags)
    return flags


def _check(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> None:
    files = [
        getattr(flags, f"{part}_{side}")
        for part in ("train", "valid")
        for side in ("source", "target")
    ]
    if any(files) and not all(files):
        parser.error(
            "--train-source, --train-target, --valid-source and "
            "--valid-target come together"
        )
    tests = (flags.test_source, flags.test_target)
    if any(tests) and not all(tests):
        parser.error("--test-source and --test-target come together")
    if any(tests) and not any(files):
        parser.error("--test-source needs --train-source")
    if flags.tfds and not flags.data:
        parser.error("--tfds needs --data DIR, where it was prepared")
    if any(files) and flags.data:
        parser.error("give parallel files, or --data")
    if flags.preset is not None and flags.configuration is not None:
        parser.error("give --preset or --configuration")
    if flags.min_length > flags.max_length:
        parser.error("--min-length has to be at most --max-length")
