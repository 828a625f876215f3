"""Encoded images, one by one: decoded, resized, and kept if there is room."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from reproduce.common.errors import InputError

CHANNELS = 3
# Of decoded images. More than that is decoded anew whenever it is needed.
KEPT_BYTES = 2 << 30
# How many broken images a message names.
NAMED = 5
# How many bytes say what kind of file it is.
HEAD = 16
MAGIC = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
}


@dataclass(frozen=True)
class Encoded:
    """Where an encoded image is.

    Attributes:
        name: What it is called in messages.
        read: Returns its first bytes, as many as asked for; all with -1.
    """

    name: str
    read: Callable[[int], bytes]


class EncodedImages:
    """Images that are decoded when they are asked for.

    Attributes:
        shape: How many, height, width and channels.
    """

    def __init__(self, sources: Sequence[Encoded], side: int):
        self._sources = sources
        self.shape = (len(sources), side, side, CHANNELS)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        def image(index: int) -> np.ndarray:
            return decode(self._sources[index], self.shape[1])

        # TensorFlow decodes outside of Python's lock.
        with ThreadPoolExecutor() as pool:
            return np.stack(list(pool.map(image, indices)))

    def at(self, indices: np.ndarray) -> EncodedImages:
        """Returns some of the images."""
        chosen = [self._sources[index] for index in indices]
        return EncodedImages(chosen, self.shape[1])


def images_of(
    sources: Sequence[Encoded], side: int | None
) -> np.ndarray | EncodedImages:
    """Decodes images, all of them if they fit into memory.

    Where they do not, of every image only the first bytes are checked here,
    and what is wrong later on in one is found when it is used.

    Args:
        sources: Where they are.
        side: The side of the squares to which they are resized. None leaves
            them, and needs all to be of one size.

    Raises:
        InputError: If any is broken. The message counts and names them.
    """
    keep = side is None or len(sources) * side * side * CHANNELS <= KEPT_BYTES
    images, faults = [], []
    for source in sources:
        try:
            if keep:
                images.append(decode(source, side))
            else:
                _check_magic(source, source.read(HEAD))
        except InputError as error:
            faults.append(str(error))
    if faults:
        more = len(faults) - NAMED
        raise InputError(
            f"{len(faults)} of {len(sources)} images cannot be read: "
            + "; ".join(faults[:NAMED])
            + (f"; and {more} more" if more > 0 else "")
            + ". Replace or remove them."
        )
    if not keep:
        return EncodedImages(sources, side)
    _check_one_size(sources, images)
    return np.stack(images)


def decode(source: Encoded, side: int | None) -> np.ndarray:
    """Returns an image of three channels.

    Raises:
        InputError: If it is not a whole PNG or JPEG.
    """
    content = source.read(-1)
    kind = _check_magic(source, content)
    try:
        if kind == "PNG":
            image = tf.io.decode_png(content, CHANNELS)
        else:
            image = tf.io.decode_jpeg(content, CHANNELS)
    except tf.errors.InvalidArgumentError as error:
        raise InputError(
            f"{source.name}: expected a whole {kind}, got {len(content)} "
            "bytes that are cut short or broken"
        ) from error
    if side is not None and image.shape[:2] != (side, side):
        image = tf.image.resize(image, (side, side), antialias=True)
        image = tf.cast(tf.round(image), tf.uint8)
    return image.numpy()


def _check_magic(source: Encoded, content: bytes) -> str:
    if not content:
        raise InputError(f"{source.name}: expected a PNG or JPEG, got 0 bytes")
    for magic, kind in MAGIC.items():
        if content.startswith(magic):
            return kind
    raise InputError(
        f"{source.name}: expected a PNG or JPEG, got a file that begins with "
        f"{content[:4]!r}"
    )


def _check_one_size(sources: Sequence[Encoded], images: list[Any]) -> None:
    first = images[0].shape
    others = [i for i, image in enumerate(images) if image.shape != first]
    if others:
        height, width = images[others[0]].shape[:2]
        raise InputError(
            f"Expected images of one size, {first[1]}x{first[0]} as "
            f"{sources[0].name}, got {width}x{height} in "
            f"{sources[others[0]].name}, and another size in {len(others)} of "
            f"{len(images)} images. Give --image-size."
        )
