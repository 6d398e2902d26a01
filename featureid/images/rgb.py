"""Pillow images of any mode to opaque RGB."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.images.failures import decoder_errors, unsupported

_OPAQUE_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr"})
_WHITE = 255
# Pixels that are converted at a time.
_PART = 1 << 20

_Pixels = npt.NDArray[np.uint8]


def to_rgb(
    image: Image.Image, kind: str, *, bits: int = 16, white_is_zero: bool = False
) -> _Pixels:
    """Return the pixels of a loaded image as uint8 (h, w, 3), transparency over white.

    Args:
        image: a loaded image.
        kind: the format's name, for messages.
        bits: how many bits the samples of a mode of more than 8 bits really use.
        white_is_zero: whether such samples are inverted, which Pillow leaves as they are.

    Raises:
        ImageError: ``unsupported`` for a mode, or values, that declare no way to be shown.
    """
    is_deep, is_transparent = _is_deep(image, kind), image.has_transparency_data
    if kind == "BMP" and is_transparent and image.getchannel("A").getextrema() == (0, 0):
        is_transparent = False  # many programs leave the fourth byte 0 and mean an opaque image
    if not is_deep and not is_transparent and image.mode not in _OPAQUE_MODES | {"RGBA"}:
        raise unsupported(kind, f"pixels of mode {image.mode}")

    def convert(part: Image.Image) -> _Pixels:
        if is_deep:
            gray = to_gray(part, kind, bits=bits)
            return np.repeat((255 - gray if white_is_zero else gray)[:, :, None], 3, axis=2)
        with decoder_errors(kind):
            return _over_white(part) if is_transparent else np.array(part.convert("RGB"))

    return _by_parts(image, convert)


def _by_parts(image: Image.Image, convert: Callable[[Image.Image], _Pixels]) -> _Pixels:
    """Convert an image some rows at a time: Pillow makes up to seven copies of what it converts."""
    width, height = image.size
    rows = max(1, _PART // width)
    if height <= rows:
        return convert(image)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        pixels[top:bottom] = convert(rows_of(image, top, bottom))
    return pixels


def rows_of(image: Image.Image, top: int, bottom: int) -> Image.Image:
    """Return some rows of an image, by the way that heeds no global of Pillow's, unlike crop()."""
    place = (0, top, image.width, bottom)
    return image.resize((image.width, bottom - top), Image.Resampling.NEAREST, place)


def to_gray(image: Image.Image, kind: str, *, bits: int) -> _Pixels:
    """Return the pixels of a loaded gray image as uint8 (h, w).

    Args:
        image: a loaded image.
        kind: the format's name, for messages.
        bits: how many bits the samples of a mode of more than 8 bits really use.

    Raises:
        ImageError: ``unsupported`` for a mode, or values, that declare no way to be shown.
    """
    if image.mode == "F":
        return _float_gray(image, kind)
    if _is_deep(image, kind):
        return _deep_gray(image, bits)
    if image.mode not in ("1", "L"):
        raise unsupported(kind, f"pixels of mode {image.mode}")
    return np.array(image.convert("L"))


def _is_deep(image: Image.Image, kind: str) -> bool:
    return image.mode == "F" or image.mode.startswith("I;16") or (image.mode, kind) == ("I", "PPM")


def on_white(pixels: _Pixels, left: int, top: int, canvas: tuple[int, int]) -> _Pixels:
    """Return a white canvas of (width, height) with uint8 (h, w, 3) `pixels` at their place."""
    height, width = pixels.shape[:2]
    if (width, height) == canvas:
        return pixels
    result = np.full((canvas[1], canvas[0], 3), _WHITE, np.uint8)
    result[top : top + height, left : left + width] = pixels
    return result


def _over_white(image: Image.Image) -> _Pixels:
    if image.mode == "La":
        image = image.convert("LA")  # Pillow does not convert it to RGBA directly
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    alpha = image.getchannel("A")
    flat = Image.new("RGB", image.size, (_WHITE, _WHITE, _WHITE))
    flat.paste(image.convert("RGB"), mask=alpha)
    return np.array(flat)


def _deep_gray(image: Image.Image, bits: int) -> _Pixels:
    # The high byte: Pillow's convert("L") clips at 255 and would make a photo all white.
    samples = np.asarray(image)
    gray = np.asarray((samples >> (bits - 8)).clip(0, 255), np.uint8)
    if "transparency" in image.info:
        gray[samples == image.info["transparency"]] = _WHITE
    return gray


def _float_gray(image: Image.Image, kind: str) -> _Pixels:
    # 0 to 1 is what imaging libraries mean by float pixels; to stretch any other range would
    # make the result depend on the extremes of each image.
    samples = np.asarray(image)
    if not (samples.min() >= 0 and samples.max() <= 1):
        raise unsupported(kind, f"float pixels from {samples.min()} to {samples.max()}, not 0 to 1")
    return np.asarray(np.rint(samples * 255), np.uint8)


def scaled_transparency(mode: str, color: object, bits: int) -> object:
    """Return a PNG ``tRNS`` color in the units of the decoded pixels; Pillow keeps the file's."""
    if mode == "L" and bits < 8 and isinstance(color, int):
        return color * 255 // ((1 << bits) - 1)
    if mode == "RGB" and bits == 16 and isinstance(color, tuple):
        return tuple(sample >> 8 for sample in color)
    return color
