"""Resize an image to the input size of a model."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

# Pillow resizes rows first.  For a very tall, narrow image the intermediate result would be many
# times the image (1 x 60,000,000 to 224 x 224: 50 GB), so above this size columns go first.
_MAX_INTERMEDIATE_PIXELS = 1 << 26


def resize_image(pixels: npt.NDArray[np.uint8], height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return an image stretched to exactly `height` x `width`, antialiased.

    Pillow computes in fixed-point integers, so that every CPU gives the same bytes.

    Args:
        pixels: uint8 (h, w, 3), h and w at least 1.
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.

    Returns:
        uint8 (height, width, 3), C-contiguous; never a view of `pixels`.

    Raises:
        ValueError: an argument has another shape, dtype or range.
    """
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(
            f"pixels must be a non-empty uint8 (h, w, 3) array, not {pixels.dtype} {pixels.shape}"
        )
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, not {height} x {width}")
    image = Image.fromarray(pixels)
    # BICUBIC is the default of Image.resize, which the published method used, and the filter that
    # EfficientNet-Lite was evaluated with.
    filter_ = Image.Resampling.BICUBIC
    if image.height * width > max(_MAX_INTERMEDIATE_PIXELS, image.height * image.width):
        image = image.resize((image.width, height), filter_)
    return np.array(image.resize((width, height), filter_))
