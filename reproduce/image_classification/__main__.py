"""Image classification, plain and with R-Drop."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from reproduce.common import runs
from reproduce.common.compare import run_directory
from reproduce.common.errors import InputError
from reproduce.data.image_directory import load_directory
from reproduce.data.images import TRAIN_DIGITS
from reproduce.data.images import Dataset
from reproduce.data.images import load_digits
from reproduce.image_classification.compare import compare
from reproduce.image_classification.flags import DEFAULTS
from reproduce.image_classification.flags import parse
from reproduce.image_classification.flags import settings_of
from reproduce.image_classification.model import check
from reproduce.image_classification.train import train
from reproduce.models.vit import check_side

# The files that the demo writes and classifies.
DEMO = "demo"
DEMO_IMAGES = 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit status."""
    try:
        flags = parse(None if arguments is None else list(arguments))
        dataset = _dataset(flags)
        print(", ".join(f"{k}: {v}" for k, v in dataset.facts().items()))
        _run(dataset, flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _dataset(flags: argparse.Namespace) -> Dataset:
    side = flags.image_size
    if flags.preset is not None:
        side = check_side(flags.preset, side)
    if flags.data is None:
        return load_digits(flags.train_images or TRAIN_DIGITS)
    return load_directory(
        flags.data, flags.format, side, flags.train_images, flags.tfds
    )


def _run(dataset: Dataset, flags: argparse.Namespace) -> None:
    settings = settings_of(flags)
    if flags.recipe is not None and flags.preset is None:
        print(
            "warning: the paper fine-tunes a model pretrained on "
            "ImageNet-21k. Without --preset weights are random.",
            file=sys.stderr,
        )
    arms = flags.compare or (("plain", "rdrop") if flags.demo else None)
    check(dataset.image_shape, settings, arms or (flags.arm,))
    if arms is None:
        metrics = train(dataset, settings, flags.output, flags.resume)
        for part in ("valid", "test"):
            measured = metrics[part]
            print(
                f"{part}: accuracy {100 * measured['accuracy']:.2f} %, "
                f"loss {measured['loss']:.3f}, calibration error "
                f"{100 * measured['calibration_error']:.2f} %"
            )
        print(f"written to {flags.output}")
        return
    # One seed shows the way; a result takes several.
    default = DEFAULTS.seeds[:1] if flags.demo else DEFAULTS.seeds
    seeds = flags.seeds or default
    compare(dataset, settings, arms, seeds, flags.output, flags.resume)
    print(f"written to {flags.output}")
    if flags.demo:
        shown = run_directory(flags.output, arms[-1], seeds[0])
        files = _write_images(dataset, flags.output / DEMO)
        _serve(shown / runs.SAVED_MODEL, files)


def _write_images(dataset: Dataset, directory: Path) -> list[Path]:
    """Writes the first test images as files named after their classes."""
    directory.mkdir(exist_ok=True)
    files = []
    indices = np.arange(min(DEMO_IMAGES, len(dataset.test)))
    images = dataset.test.images[indices]
    for index, image in zip(indices, images):
        name = dataset.classes[dataset.test.labels[index]].replace("/", "_")
        file = directory / f"{index}-{name}.png"
        keras.utils.save_img(file, image, scale=False)
        files.append(file)
    return files


def _serve(saved_model: Path, files: list[Path]) -> None:
    print(f"{saved_model}, in a process of its own:", flush=True)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "reproduce.image_classification.serve",
            str(saved_model),
            *map(str, files),
        ],
        check=True,
    )


if __name__ == "__main__":
    sys.exit(main())
