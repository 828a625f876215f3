"""Batches of images: shuffled for training, in order for measuring."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from examples.common.errors import InputError
from examples.image_classification.data import Part

# The number of pixels that He et al. 2016 shift by at most.
SHIFT = 4


def training_batches(
    part: Part,
    batch_size: int,
    seed: int,
    epoch: Callable[[], int],
    augment: bool = False,
) -> tf.data.Dataset:
    """Returns an epoch of batches in an order that its number decides.

    Args:
        part: What to train on.
        batch_size: How many images a batch has; the last may have fewer.
        seed: Decides order and changes to the images.
        epoch: Returns the number of the epoch that begins.
        augment: Whether to shift and mirror images.
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
            if augment:
                images = shifted_and_mirrored(images, generator)
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
