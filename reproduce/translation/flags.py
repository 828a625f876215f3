"""The command line of the translation example."""

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
from reproduce.models.translation_sizes import CONFIGURATIONS
from reproduce.translation.recipe import recipe_flags
from reproduce.translation.train import POLICIES

DEFAULTS = Defaults(
    alpha=5.0,
    dropout=None,
    epochs=60,
    batch_size=None,
    seeds=(1, 2, 3, 4, 5),
    output="runs/translation",
)
# So few that a tiny model over-fits them: what R-Drop is there for.
TRAIN_PAIRS = 600
RATES = ("dropout", "attention_dropout", "activation_dropout")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line.

    A recipe sets the defaults of all flags that it has something to say about.

    Raises:
        InputError: If there is no such recipe for translation.
    """
    parser, train = _parsers()
    flags = parser.parse_args(arguments)
    if flags.command == "train" and flags.recipe is not None:
        if flags.data is None:
            parser.error("--recipe needs --data DIR, where its dataset is")
        train.set_defaults(**recipe_flags(flags.recipe))
        flags = parser.parse_args(arguments)
    if flags.command == "train":
        _check_files(parser, flags)
    return flags


def _check_files(
    parser: argparse.ArgumentParser, flags: argparse.Namespace
) -> None:
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
    tables = (flags.train_tsv, flags.valid_tsv)
    if any(tables) and not all(tables):
        parser.error("--train-tsv and --valid-tsv come together")
    if sum(map(bool, (any(files), any(tables), flags.data))) > 1:
        parser.error("give parallel files, or TSV files, or --data")
    for name, needs in (
        ("test_source", "train_source"),
        ("test_target", "train_source"),
        ("test_tsv", "train_tsv"),
    ):
        if getattr(flags, name) and not getattr(flags, needs):
            parser.error(
                f"--{name.replace('_', '-')} needs --{needs.replace('_', '-')}"
            )


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="python -m reproduce.translation",
        description="Machine translation with a Transformer, plain and with "
        "R-Drop",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    train = commands.add_parser(
        "train", help="train, score, save and export a translator"
    )
    _add_data_flags(train)
    _add_model_flags(train)
    add_training_flags(train, DEFAULTS)
    _add_more_training_flags(train)
    for command in add_using_commands(
        commands, "translate", "lines", "sentence", "sacreBLEU"
    ):
        _add_decoding_flags(command)
    return parser, train


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "data (default: localized text of the CLDR, no download)"
    )
    for part in ("train", "valid", "test"):
        for side in ("source", "target"):
            group.add_argument(
                f"--{part}-{side}",
                type=Path,
                metavar="FILE",
                help="UTF-8, one sentence a line",
            )
        group.add_argument(
            f"--{part}-tsv",
            type=Path,
            metavar="FILE",
            help="UTF-8, two columns: source and target",
        )
    group.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a directory of train.de, train.en, valid.de ... as fairseq's "
        "prepare-iwslt14.sh leaves it",
    )
    group.add_argument(
        "--source-language", default="en", metavar="CODE", help="(default: en)"
    )
    group.add_argument(
        "--target-language",
        "--target",
        default="de",
        metavar="CODE",
        help="(default: de)",
    )
    add_train_pairs(group, TRAIN_PAIRS)
    add_recipe(group, "translation", "one of its datasets")


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
        "--vocabulary-size",
        type=at_least(1),
        default=500,
        help="how many subwords (default: %(default)s)",
    )
    group.add_argument(
        "--separate-vocabularies",
        action="store_true",
        help="subwords and embeddings of its own for each side",
    )


def _add_more_training_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("batches and schedule")
    add_max_tokens(group, 256)
    group.add_argument(
        "--max-length",
        type=at_least(1),
        default=175,
        help="leave out training pairs with more subwords on a side "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--max-ratio",
        type=at_least(1.0),
        help="leave out training pairs of which one side is so many times as "
        "long as the other (default: none)",
    )
    add_update_flags(group, warm_up=200, weight_decay=0.0)
    group.add_argument(
        "--label-smoothing", type=rate, default=0.1, help="(default: 0.1)"
    )
    add_computation_flags(group, POLICIES, "target positions")
    group = parser.add_argument_group("choice of weights")
    add_choice_flags(group, "BLEU", "translate", every=5)
    _add_decoding_flags(parser, beam_size=5, length_penalty=1.0)
    parser.add_argument(
        "--demo",
        action="store_true",
        help="--compare plain and rdrop on one seed, then translate a few "
        "sentences in another process",
    )


def _add_decoding_flags(
    parser: argparse.ArgumentParser, **defaults: Any
) -> None:
    group = parser.add_argument_group("decoding")
    theirs = "%(default)s" if defaults else "that of the training"
    group.add_argument(
        "--beam-size",
        type=at_least(1),
        default=defaults.get("beam_size"),
        help=f"1 is greedy (default: {theirs})",
    )
    group.add_argument(
        "--length-penalty",
        type=float,
        default=defaults.get("length_penalty"),
        help="the power of the length by which scores are divided "
        f"(default: {theirs})",
    )
