"""The random augmentations of training images in the papers."""

from __future__ import annotations

import numpy as np

from reproduce.data.image_files import resized

# He et al. 2016 shift by at most this many pixels.
SHIFT = 4
# The area shares and aspect ratios of the crops in the R-Drop authors' ViT
# code, and its number of attempts to draw a crop that fits.
CROP_SHARES = (0.05, 1.0)
CROP_RATIOS = (3 / 4, 4 / 3)
CROP_TRIES = 10


def shifted_and_mirrored(
    images: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Shifts images by up to 4 pixels, with black edges, and mirrors half."""
    count, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
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
    """Crops 5 to 100 % of each image and resizes the crop to the whole.

    The authors of R-Drop train the Vision Transformer with these crops and
    without mirroring.
    """
    _, height, width, _ = images.shape
    found = []
    for image in images:
        top, left, rows, columns = _crop(height, width, generator)
        part = image[top : top + rows, left : left + columns]
        found.append(resized(part, height, width))
    return np.stack(found)


AUGMENTATIONS = {"shift": shifted_and_mirrored, "crop": cropped}


def _crop(
    height: int, width: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Returns top, left, rows and columns of a random crop."""
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
    return 0, 0, height, width
