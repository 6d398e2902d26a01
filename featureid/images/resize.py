"""Resize an image to the input size of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

# Rows are resized first.  For a very tall, narrow image the intermediate result would be many times
# the image (1 x 60,000,000 to 224 x 224: 50 GB), so above this size columns go first, and where
# Pillow 12 does it.
_MAX_INTERMEDIATE_PIXELS = 1 << 26
_NARROW = 100

Box = tuple[float, float, float, float]
ResizeMethod = Literal["stretch", "shortest", "pad"]
Interpolation = Literal["bicubic", "bilinear"]
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# A fraction is often the quotient of two sizes: 224 / (224 / 232) must not become 231.
_ROUNDING = 1e-6


def _check_choice(what: str, value: str, known: Iterable[str]) -> None:
    if value not in known:
        raise ValueError(f"unknown {what} {value!r}; known: {', '.join(known)}")


@dataclass(frozen=True)
class ResizePolicy:
    """How an image of any shape becomes one of a model's input size.

    Attributes:
        method: ``stretch``: the whole image, without keeping its aspect ratio; ``shortest``: it
            keeps it, covers the size divided by ``crop_fraction``, and its center is cut out, as
            torchvision's ``Resize`` and ``CenterCrop`` do; ``pad``: it keeps it, lies within the
            size, and ``fill`` surrounds it.
        interpolation: ``bicubic`` or ``bilinear``, antialiased as by Pillow.
        crop_fraction: of ``shortest``: the input size as a fraction of the resized image's, above
            0 and up to 1.
        fill: of ``pad``: red, green and blue from 0 to 255.

    Raises:
        ValueError: a value is out of range, or belongs to another method.
    """

    method: ResizeMethod
    interpolation: Interpolation
    crop_fraction: float = 1.0
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        _check_choice("resize method", self.method, get_args(ResizeMethod))
        _check_choice("interpolation", self.interpolation, get_args(Interpolation))
        # A float in any case: the digest of 1 is not that of 1.0.
        object.__setattr__(self, "crop_fraction", float(self.crop_fraction))
        object.__setattr__(self, "fill", tuple(self.fill))
        if not 0 < self.crop_fraction <= 1:
            raise ValueError(
                f"crop_fraction must be above 0 and at most 1, got {self.crop_fraction}"
            )
        if not all(0 <= value <= 255 for value in self.fill):
            raise ValueError(f"fill must be from 0 to 255, got {self.fill}")
        if self.crop_fraction != 1 and self.method != "shortest":
            raise ValueError(f"crop_fraction belongs to shortest, not to {self.method}")
        if any(self.fill) and self.method != "pad":
            raise ValueError(f"fill belongs to pad, not to {self.method}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields that the method has, as JSON values."""
        fields: dict[str, Any] = {"method": self.method, "interpolation": self.interpolation}
        if self.method == "shortest":
            fields["crop_fraction"] = self.crop_fraction
        if self.method == "pad":
            fields["fill"] = self.fill
        return fields

    def covered(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that an image covers, or within which it lies, when resized.

        Args:
            height: rows of the model's input.
            width: columns of the model's input.
        """
        return (
            math.floor(height / self.crop_fraction + _ROUNDING),
            math.floor(width / self.crop_fraction + _ROUNDING),
        )


STRETCH = ResizePolicy("stretch", "bicubic")
"""The whole image, bicubic.

It is the default of Pillow's ``Image.resize``, which the published method used, and the filter that
EfficientNet-Lite was evaluated with.
"""


def resize_image(
    pixels: npt.NDArray[np.uint8], height: int, width: int, policy: ResizePolicy = STRETCH
) -> npt.NDArray[np.uint8]:
    """Return an image of exactly `height` x `width`, antialiased.

    Pillow computes in fixed-point integers, so that every CPU gives the same bytes.

    Args:
        pixels: uint8 (h, w, 3), h and w at least 1.
        height: rows of the result, at least 1.
        width: columns of the result, at least 1.
        policy: what becomes of the aspect ratio.

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
    resized = _METHODS[policy.method](image, height, width, policy)
    return np.array(resized)


def _stretch(image: Image.Image, height: int, width: int, policy: ResizePolicy) -> Image.Image:
    return _resampled(image, height, width, policy, (0, 0, *image.size))


def _shortest(image: Image.Image, height: int, width: int, policy: ResizePolicy) -> Image.Image:
    rows, columns = policy.covered(height, width)
    if rows * image.width >= columns * image.height:
        columns = image.width * rows // image.height
    else:
        rows = image.height * columns // image.width
    # As torchvision rounds: halves to even.
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    x, y = image.width / columns, image.height / rows
    # Only the columns that are cut out are computed; Pillow still reads the pixels around it.
    box = (
        left * x,
        top * y,
        min((left + width) * x, image.width),
        min((top + height) * y, image.height),
    )
    return _resampled(image, height, width, policy, box)


def _pad(image: Image.Image, height: int, width: int, policy: ResizePolicy) -> Image.Image:
    if height * image.width <= width * image.height:
        rows, columns = height, max(1, round(image.width * height / image.height))
    else:
        rows, columns = max(1, round(image.height * width / image.width)), width
    canvas = Image.new("RGB", (width, height), policy.fill)
    inner = _resampled(image, rows, columns, policy, (0, 0, *image.size))
    canvas.paste(inner, ((width - columns) // 2, (height - rows) // 2))
    return canvas


def _resampled(
    image: Image.Image, height: int, width: int, policy: ResizePolicy, box: Box
) -> Image.Image:
    """Resize a part of an image, its rows first, and round to whole numbers between.

    Pillow 12 does the same in one call; Pillow 13 resizes the columns of tall images first, which
    gives other pixels.

    Args:
        image: the image.
        height: rows of the result.
        width: columns of the result.
        policy: names the filter.
        box: left, top, right and bottom of the part.
    """
    filter_ = _FILTERS[policy.interpolation]
    left, top, right, bottom = box
    narrow = image.height > _NARROW * image.width and height < image.height
    if narrow or image.height * width > max(_MAX_INTERMEDIATE_PIXELS, image.height * image.width):
        image = image.resize((image.width, height), filter_, (0, top, image.width, bottom))
        return image.resize((width, height), filter_, (left, 0, right, height))
    image = image.resize((width, image.height), filter_, (left, 0, right, image.height))
    return image.resize((width, height), filter_, (0, top, width, bottom))


_METHODS = {"stretch": _stretch, "shortest": _shortest, "pad": _pad}
