"""Images that a program has in memory, as NumPy arrays or Pillow images, to upright RGB pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.errors import UsageError
from featureid.images.decode import DecodedImage
from featureid.images.exif import exif_orientation, upright
from featureid.images.failures import decoder_errors
from featureid.images.rgb import to_rgb


def image_from_array(array: npt.NDArray[Any]) -> DecodedImage:
    """Return an array as an image.

    Args:
        array: uint8, (h, w, 3) RGB or (h, w) gray, upright.

    Raises:
        UsageError: it has another type or shape, or no pixels. There is one way to read such
            values wrongly for each way to read them (0 to 1 or 0 to 255, RGBA or CMYK, BGR), so
            none is guessed.
    """
    if array.dtype != np.uint8:
        raise UsageError(
            f"the image is an array of {array.dtype}; give uint8, with values from 0 to 255"
        )
    gray = array.ndim == 2
    if not (gray or (array.ndim == 3 and array.shape[2] == 3)) or not array.size:
        raise UsageError(
            f"the image is an array of shape {array.shape}; give (height, width, 3) RGB or "
            "(height, width) gray, with at least one pixel"
        )
    pixels = np.repeat(array[:, :, np.newaxis], 3, axis=2) if gray else array
    height, width = pixels.shape[:2]
    return DecodedImage(np.ascontiguousarray(pixels), width, height, "array")


def image_from_pillow(image: Image.Image) -> DecodedImage:
    """Return a Pillow image of any mode, its EXIF orientation applied, transparency over white.

    Raises:
        ImageError: stage ``decode``: its file is truncated or corrupt, or its mode unsupported.
        UsageError: it has no pixels.
    """
    kind = image.format or "Pillow image"
    with decoder_errors(kind):
        image.load()
    if not image.width or not image.height:
        raise UsageError(f"the Pillow image is {image.width} x {image.height} pixels; it is empty")
    # Not getexif(), which warns of damaged EXIF. Pillow applies the orientation of a TIFF itself.
    pixels = upright(to_rgb(image, kind), exif_orientation(image.info.get("exif", b"")))
    height, width = pixels.shape[:2]
    return DecodedImage(pixels, width, height, kind)
