"""PNG and JPEG files, decoded one by one with Pillow.

`keras.utils.image_dataset_from_directory` decodes images of any size without a
check, does not name the file that it fails on, and needs TensorFlow or grain.
Pillow reads the size from the header first.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO
from typing import NamedTuple

import numpy as np
from PIL import Image

from reproduce.common.errors import InputError

CHANNELS = 3
# The first bytes of a file, by format.
MAGIC = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
# Images with more pixels are refused before they are decoded.
MAX_PIXELS = 8192 * 8192
# Decoded images are kept in memory if they take no more than this. Otherwise
# they are decoded whenever they are needed.
KEPT_BYTES = 2 << 30
# The number of corrupt images that an error message names.
NAMED = 5


class Encoded(NamedTuple):
    """An encoded image: its name in messages, and a function that opens it."""

    name: str
    open: Callable[[], BinaryIO]


# The encoded images and their class indices, by the name of the part.
Sources = dict[str, tuple[list[Encoded], np.ndarray]]


class EncodedImages:
    """Images that are decoded whenever they are indexed, as uint8."""

    def __init__(self, sources: Sequence[Encoded], side: int):
        self._sources = sources
        self.shape = (len(sources), side, side, CHANNELS)

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        side = self.shape[1]
        # Pillow releases the GIL while it decodes.
        with ThreadPoolExecutor() as pool:
            chosen = [self._sources[index] for index in indices]
            return np.stack(list(pool.map(lambda x: decode(x, side), chosen)))

    def at(self, indices: np.ndarray) -> EncodedImages:
        """Returns some of the images."""
        chosen = [self._sources[index] for index in indices]
        return EncodedImages(chosen, self.shape[1])


def images_of(
    sources: Sequence[Encoded], side: int | None
) -> np.ndarray | EncodedImages:
    """Returns images, decoded in advance if they fit into memory.

    If they do not fit, only the header of every image is checked here. An
    image that is corrupt after its header raises an error when it is used.
    Without a side of squares to resize to, all must have the same size.
    """
    keep = side is None or len(sources) * side * side * CHANNELS <= KEPT_BYTES
    images, faults = [], []
    for source in sources:
        try:
            images.append(decode(source, side, pixels=keep))
        except InputError as error:
            faults.append(str(error))
    if faults:
        raise InputError(
            f"{len(faults)} of {len(sources)} images cannot be read: "
            f"{'; '.join(faults[:NAMED])}. Replace or remove them."
        )
    if not keep:
        return EncodedImages(sources, side)
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
    return np.stack(images)


def decode(
    source: Encoded, side: int | None, pixels: bool = True
) -> np.ndarray | None:
    """Returns a decoded image with three channels, resized to a square.

    A side of None keeps its size. Without `pixels`, only the header is read.
    """
    with source.open() as file:
        head = file.read(8)
        kind = next((k for k, m in MAGIC.items() if head.startswith(m)), None)
        if kind is None:
            found = f"a file that begins with {head[:4]!r}"
            raise InputError(
                f"{source.name}: expected a PNG or JPEG, got "
                f"{found if head else '0 bytes'}"
            )
        try:
            file.seek(0)
            image = Image.open(file, formats=[kind])
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            return _pixels(image, side) if pixels else None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise InputError(
                f"{source.name}: expected at most {MAX_PIXELS} pixels, got "
                "more. Resize the image"
            ) from None
        # Pillow raises SyntaxError and others for corrupt chunks.
        except Exception as error:
            raise InputError(
                f"{source.name}: expected a whole {kind}, got "
                f"{file.seek(0, 2)} bytes that are cut short or broken"
            ) from error


def _pixels(image: Image.Image, side: int | None) -> np.ndarray:
    if image.mode.startswith("I"):
        # Pillow clips 16-bit gray images instead of scaling them.
        image = Image.fromarray((np.asarray(image) >> 8).astype("uint8"))
    pixels = np.asarray(image.convert("RGB"))
    return pixels if side is None else resized(pixels, side, side)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns an image of another size, bilinear and antialiased."""
    if image.shape[:2] == (height, width):
        return image
    # Channel by channel, because Pillow supports only 1, 3 and 4 channels.
    channels = [
        Image.fromarray(channel).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)
