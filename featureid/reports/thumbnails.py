"""Small pictures of images and faces, and what keeps their number and size within bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, StorageError, UsageError
from featureid.images import DecodedImage, DecodeLimits, decode_damaged, decode_image
from featureid.inputs import read_image
from featureid.reports.faces import annotated
from featureid.reports.page import Box, Picture
from featureid.storage.records import Face

Pixels = npt.NDArray[np.uint8]

#: Pixels of the longer side.
SIDE = 240
#: The longer side of a picture with something drawn onto it, which has to be looked at closely.
MARKED_SIDE = 960
_QUALITY = 80
# A quarter of a face on each side tells who it is better than the face alone.
_MARGIN = 0.25


@dataclass(frozen=True)
class Thumbnail:
    """A small picture, or why there is none.

    Attributes:
        data: a JPEG file; b"" if there is none.
        width: its columns.
        height: its rows.
        original: width and height of the image; (0, 0) if that is not known.
        missing: why there is no picture, or not all of it, as ``not-found``; "" if there is.
    """

    data: bytes = b""
    width: int = 0
    height: int = 0
    original: tuple[int, int] = (0, 0)
    missing: str = ""


def make_thumbnail(picture: Picture) -> Thumbnail:
    """Return the thumbnail of a picture, upright; an image that cannot be shown gives the reason.

    Thread-safe.
    """
    if picture.uri is None:
        return Thumbnail(missing="place-not-known")
    # Boxes and landmarks are in pixels of the whole image.
    wanted = None if picture.crop or picture.faces else (SIDE, SIDE)
    data = b""
    try:
        data = read_image(picture.uri, DecodeLimits().max_bytes)
        image = decode_image(data, min_size=wanted)
    except ImageError as error:
        return _remains(data, error.reason)
    except (StorageError, UsageError):  # no such store, or no package for it
        return Thumbnail(missing="unreadable")
    return thumbnail_of(image, picture.crop, picture.faces)


def _remains(data: bytes, reason: str) -> Thumbnail:
    """Return what can be seen of an image that cannot be decoded, and why it cannot."""
    try:
        image = decode_damaged(data, min_size=(SIDE, SIDE))
    except ImageError:
        return Thumbnail(missing=reason)
    return replace(thumbnail_of(image), missing=reason)


def thumbnail_of(
    image: DecodedImage, crop: Box | None = None, faces: Sequence[Face] = ()
) -> Thumbnail:
    """Return the thumbnail of an image, or of a part of it.

    Args:
        image: at its full size, if there is a box or a face.
        crop: the part, in pixels; None for the whole image.
        faces: what is drawn onto it.
    """
    pixels = image.pixels
    if faces:
        pixels = np.asarray(annotated(pixels, faces))
    if crop:
        pixels = _cropped(pixels, crop)
    shown = _fitted(pixels, MARKED_SIDE if faces else SIDE)
    return Thumbnail(_encoded(shown), shown.shape[1], shown.shape[0], (image.width, image.height))


def _cropped(pixels: Pixels, box: Box) -> Pixels:
    """Return the part in a box and a margin around it, as far as the image has it."""
    left, top, right, bottom = box
    x, y = (right - left) * _MARGIN, (bottom - top) * _MARGIN
    height, width = pixels.shape[:2]
    # At least one pixel, wherever the box is.
    first = min(max(0, int(top - y)), height - 1), min(max(0, int(left - x)), width - 1)
    last = max(first[0] + 1, int(bottom + y)), max(first[1] + 1, int(right + x))
    return pixels[first[0] : last[0], first[1] : last[1]]


def _fitted(pixels: Pixels, side: int) -> Pixels:
    """Return an image whose longer side is at most ``side``."""
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _encoded(pixels: Pixels) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ImageError("decode", "unsupported", "OpenCV cannot write a JPEG")
    return bytes(data)
