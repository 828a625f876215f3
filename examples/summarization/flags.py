"""The command line of the summarization example."""

from __future__ import annotations

import argparse
from typing import Any

from examples.common.errors import InputError
from examples.common.flags import Defaults
from examples.summarization.arguments import parsers
from rdrop_keras import recipes

DEFAULTS = Defaults(
    alpha=0.7,
    dropout=None,
    epochs=8,
    batch_size=None,
    seeds=(1, 2, 3),
    output="runs/summarization",
)
# Fairseq's `max-source-positions` and `max-target-positions` of BART.
POSITIONS = 1024


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


def recipe_flags(name: str) -> dict[str, Any]:
    """Returns the flags that make a run of a recipe, by name."""
    names = recipes.names("summarization")
    if name not in names:
        raise InputError(
            f"--recipe {name}: expected one of {', '.join(names)}."
        )
    recipe = recipes.get(name)
    optimizer, schedule = recipe.optimizer_settings, recipe.schedule
    batch, decoding = recipe.batch, recipe.decoding
    return {
        "alpha": recipe.alpha,
        "dropout": recipe.dropout.rate,
        "max_source_length": POSITIONS,
        "max_target_length": POSITIONS,
        "max_tokens": batch.tokens,
        # On one device, what the paper spread over several.
        "accumulate": (batch.gradient_accumulation_steps or 1)
        * (batch.devices or 1),
        "learning_rate": schedule.learning_rate,
        "warm_up": schedule.warmup_updates,
        "power": schedule.power,
        "updates": schedule.total_updates,
        "weight_decay": optimizer.weight_decay,
        "clip_norm": optimizer.global_clipnorm,
        "summed_loss": True,
        "label_smoothing": recipe.label_smoothing,
        "validate_every": 1,
        "validate_on": 1000,
        "beam_size": decoding.beam_size,
        "length_penalty": decoding.length_penalty,
        "min_length": decoding.min_length,
        "max_length": decoding.max_length,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "vocabulary_chunk": "auto",
    }


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
