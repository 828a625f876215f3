"""Batches of images: shuffled for training, in order for measuring."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image

from reproduce.common.errors import InputError
from reproduce.image_classification.data import Part

# The number of pixels that He et al. 2016 shift by at most.
SHIFT = 4
# What share of an image the R-Drop authors' code for ViT crops, and how wide
# such a crop is for its height; it tries so many times to find one that fits.
CROP_SHARES = (0.05, 1.0)
CROP_RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10


def training_batches(
    part: Part,
    batch_size: int,
    seed: int,
    epoch: Callable[[], int],
    augment: str | None = None,
) -> tf.data.Dataset:
    """Returns an epoch of batches in an order that its number decides.

    Args:
        part: What to train on.
        batch_size: How many images a batch has; the last may have fewer.
        seed: Decides order and changes to the images.
        epoch: Returns the number of the epoch that begins.
        augment: How to change images, one of `AUGMENTATIONS`, or None.
    """
    count = len(part)

    def one_epoch():
        # `Dataset.shuffle` would begin with the first epoch's order again in
        # a resumed run.
        generator = np.random.default_rng((seed, epoch()))
        order = generator.permutation(count)
        for start in range(0, count, batch_size):
            chosen = order[start : start + batch_size]
            images = part.images[chosen]
            if augment is not None:
                images = AUGMENTATIONS[augment](images, generator)
            yield images, part.labels[chosen]

    return _batches(one_epoch, part, batch_size)


def fault_in(error: tf.errors.OpError) -> str | None:
    """Returns what an `InputError` said that ended the reading of batches.

    TensorFlow raises an error of its own in its place, with its text.
    """
    found = re.search(rf"{InputError.__name__}: (.*)", error.message or "")
    return found and found[1]


def measuring_batches(part: Part, batch_size: int) -> tf.data.Dataset:
    """Returns all images once, in order."""

    def in_order():
        for start in range(0, len(part), batch_size):
            chosen = np.arange(start, min(start + batch_size, len(part)))
            yield part.images[chosen], part.labels[chosen]

    return _batches(in_order, part, batch_size)


def shifted_and_mirrored(
    images: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Returns images shifted by up to 4 pixels, half of them mirrored.

    What comes in at the edges is black. It is how He et al. 2016 train on
    CIFAR.
    """
    count, height, width, _ = images.shape
    edges = ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
    padded = np.pad(images, edges)
    tops, lefts = generator.integers(0, 2 * SHIFT + 1, (2, count))
    shifted = np.stack(
        [
            image[top : top + height, left : left + width]
            for image, top, left in zip(padded, tops, lefts)
        ]
    )
    mirrored = generator.random(count) < 0.5
    shifted[mirrored] = shifted[mirrored, :, ::-1]
    return shifted


def cropped(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Returns a part of each image, resized to the whole's height and width.

    A part has 5 to 100 % of the pixels, and is not mirrored. It is how the
    authors of R-Drop train the Vision Transformer.
    """
    _, height, width, _ = images.shape
    found = []
    for image in images:
        top, left, rows, columns = _crop(height, width, generator)
        part = image[top : top + rows, left : left + columns]
        found.append(_resized(part, height, width))
    return np.stack(found)


# By name, what changes a batch of images.
AUGMENTATIONS = {"shift": shifted_and_mirrored, "crop": cropped}


def _resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    # By Pillow, as theirs are. An operation of TensorFlow for each image of a
    # batch takes several times as long as a step of a small model.
    channels = [
        Image.fromarray(channel).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _crop(
    height: int, width: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns top, left, rows and columns of a part of an image."""
    lowest, highest = np.log(CROP_RATIOS)
    for _ in range(CROP_TRIES):
        area = height * width * generator.uniform(*CROP_SHARES)
        ratio = np.exp(generator.uniform(lowest, highest))
        rows = max(round(np.sqrt(area / ratio)), 1)
        columns = max(round(np.sqrt(area * ratio)), 1)
        if rows <= height and columns <= width:
            top = int(generator.integers(0, height - rows + 1))
            left = int(generator.integers(0, width - columns + 1))
            return top, left, rows, columns
    # All of it: of an image that is not far from a square, nothing is lost.
    return 0, 0, height, width


def _batches(
    generate: Callable, part: Part, batch_size: int
) -> tf.data.Dataset:
    batches = tf.data.Dataset.from_generator(
        generate,
        output_signature=(
            tf.TensorSpec([None, *part.images.shape[1:]], tf.uint8),
            tf.TensorSpec([None], tf.int32),
        ),
    )
    count = -(-len(part) // batch_size)
    cardinality = tf.data.experimental.assert_cardinality(count)
    return batches.apply(cardinality).prefetch(1)
