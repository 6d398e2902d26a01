"""Decode an image file, whose format is detected from its content, to upright RGB pixels."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError
from featureid.images.exif import upright
from featureid.images.failures import memory_errors, unsupported
from featureid.images.jpeg import decode_jpeg
from featureid.images.raster import decode_raster
from featureid.images.sniff import image_format

# 64 Mi pixels: images of 50-megapixel phones and 61-megapixel cameras at full size.  Measured peaks
# beside the file are 3 bytes per pixel for JPEG and netpbm, 6 for progressive JPEG, 22 for WebP,
# and at most 13 for other formats: a decoding thread needs at most 1.5 GB.  Larger JPEGs are
# decoded at a reduced scale.
_MAX_PIXELS = 1 << 26
# An uncompressed RGBA file at the limit above.
_MAX_BYTES = 4 * _MAX_PIXELS
# Of good photos, the slowest took 3 seconds to decode; slow disks and stores need the rest.
_MAX_SECONDS = 60.0


@dataclass(frozen=True)
class DecodeLimits:
    """The largest image that is decoded.

    Attributes:
        max_pixels: the most pixels that are held in memory for one image.  For a JPEG decoded at
            a reduced scale these are the decoded pixels, unless it is progressive: that needs
            memory for all pixels at any scale.
        max_bytes: the largest file, in bytes; checked by what reads the file, not by
            `decode_image`.
        max_seconds_per_image: the longest that reading and decoding may take; checked by what
            embeds many images.

    Raises:
        UsageError: a limit is below 1, or the time not above 0 or infinite.
    """

    max_pixels: int = _MAX_PIXELS
    max_bytes: int = _MAX_BYTES
    max_seconds_per_image: float = _MAX_SECONDS

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"`{name}` is {getattr(self, name)}; it must be 1 or more")
        seconds = self.max_seconds_per_image
        if not 0 < seconds <= threading.TIMEOUT_MAX:
            raise UsageError(
                f"`max_seconds_per_image` is {seconds}; it must be a number of seconds above 0"
            )


@dataclass(frozen=True, eq=False)
class DecodedImage:
    """An image as a viewer shows it.

    Attributes:
        pixels: uint8 (h, w, 3), RGB, upright, C-contiguous; may be smaller than the original.
        width: columns of the upright original, before any scaled decoding.
        height: rows of the upright original.
        format: ``JPEG`` (MPO too), ``PNG``, ``WEBP``, ``GIF``, ``BMP``, ``TIFF``, ``PPM``,
            ``AVIF`` or ``HEIC``.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    format: str


_DEFAULT_LIMITS = DecodeLimits()


def decode_image(
    data: bytes,
    *,
    min_size: tuple[int, int] | None = None,
    limits: DecodeLimits = _DEFAULT_LIMITS,
) -> DecodedImage:
    """Return the first image of a file, decoded.

    The EXIF orientation is applied and transparency composited on white.  16-bit gray keeps its
    high byte; the values of a float TIFF must be 0 to 1; 32-bit integer and Lab TIFF are refused,
    since they do not say how to show them.  Color profiles are not applied.  The function is
    thread-safe; no global state of Pillow or of Python's warnings is changed or read.

    Args:
        data: the whole file.
        min_size: (height, width) of the model's input, upright.  A large JPEG is then decoded at
            1/2, 1/4 or 1/8 of its size, but not below twice `min_size` or its own size: resizing
            that gives nearly the same pixels as a full decode.
        limits: the largest image that is decoded.

    Raises:
        ImageError: stage ``decode``, reason ``empty``, ``not-an-image``, ``truncated``,
            ``corrupt``, ``too-many-pixels``, ``unsupported`` or ``no-memory``.
        ValueError: `min_size` is not positive.
    """
    if min_size is not None and min(min_size) < 1:
        raise ValueError(f"min_size must be positive, not {min_size}")
    with memory_errors("decode"):
        return _decoded(data, min_size, limits)


def decode_damaged(
    data: bytes,
    *,
    min_size: tuple[int, int] | None = None,
    limits: DecodeLimits = _DEFAULT_LIMITS,
) -> DecodedImage:
    """Return what can be seen of a damaged image: to look at, not to embed.

    Arguments and result are those of :func:`decode_image`.

    Raises:
        ImageError: nothing can be seen of it, as of everything but JPEG.
    """
    kind = image_format(data)
    if kind != "JPEG":
        raise unsupported(kind, "damaged")
    with memory_errors("decode"):
        pixels, orientation, size = decode_jpeg(data, min_size, limits.max_pixels, damaged=True)
    return _image(pixels, orientation, size, kind)


def _decoded(data: bytes, min_size: tuple[int, int] | None, limits: DecodeLimits) -> DecodedImage:
    kind = image_format(data)
    if kind == "JPEG":
        pixels, orientation, (width, height) = decode_jpeg(data, min_size, limits.max_pixels)
    else:
        pixels, orientation = decode_raster(data, kind, limits.max_pixels)
        height, width = pixels.shape[:2]
    return _image(pixels, orientation, (width, height), kind)


def _image(
    pixels: npt.NDArray[np.uint8], orientation: int, size: tuple[int, int], kind: str
) -> DecodedImage:
    """Return an upright image from pixels as they are stored."""
    width, height = size if orientation < 5 else size[::-1]
    return DecodedImage(upright(pixels, orientation), width, height, kind)
