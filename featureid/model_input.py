"""Images made ready for a model: read, decoded, and resized or cut to their faces."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.face_crops import DECODED_AT_LEAST, cut_faces
from featureid.images import (
    DecodedImage,
    DecodeLimits,
    FaceFinder,
    decode_image,
    resize_image,
)
from featureid.images.pdq import image_hash
from featureid.inputs import read_image
from featureid.models import Preprocessing
from featureid.storage.records import Face, PerceptualHash

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class LoadedImage:
    """An image or a face ready for the model, and what rows record of its source.

    Attributes:
        pixels: (height, width, 3) uint8 RGB of the model's input size.
        sha256: digest of the file's bytes, 32 bytes.
        source_size: bytes of the file.
        width: of the upright original, in pixels.
        height: of the upright original, in pixels.
        face: the face that was cut out; None for a whole image.
        hash: perceptual hash of the image; None if it was not asked for.
    """

    pixels: Pixels
    sha256: bytes
    source_size: int
    width: int
    height: int
    face: Face | None = None
    hash: PerceptualHash | None = None


def load_image(
    uri: str,
    preprocessing: Preprocessing,
    limits: DecodeLimits | None = None,
    finder: FaceFinder | None = None,
    hash: str = "",
) -> list[LoadedImage]:
    """Read and decode one image; resize it, or cut out its faces.

    Args:
        uri: path or URI of the image.
        preprocessing: of the model.
        limits: the largest file to read and the largest image to decode.
        finder: finds the faces, for a model of faces.
        hash: the perceptual hash to compute, ``pdq``; "" for none.

    Returns:
        One item, or with ``finder`` one for each chosen face, at least one.

    Raises:
        ImageError: the file cannot be read or decoded, or has no face.
    """
    limits = limits or DecodeLimits()
    data = read_image(uri, limits.max_bytes)
    image = decode_for(data, preprocessing, limits)
    return fitted_images(data, image, preprocessing, finder, hash)


def fitted_images(
    data: bytes,
    image: DecodedImage,
    preprocessing: Preprocessing,
    finder: FaceFinder | None,
    hash: str,
) -> list[LoadedImage]:
    """Resize a decoded image, or cut out its faces; see :func:`load_image`.

    Args:
        data: the bytes of its file.
        image: what they are decoded to.
        preprocessing: of the model.
        finder: finds the faces, for a model of faces.
        hash: the perceptual hash to compute, ``pdq``; "" for none.
    """
    fitted = fit_image(image, preprocessing, finder)
    sha256 = hashlib.sha256(data).digest()
    size = {"source_size": len(data), "width": image.width, "height": image.height}
    hashed = hash_image(image) if hash else None
    return [LoadedImage(pixels, sha256, **size, face=face, hash=hashed) for face, pixels in fitted]


def hash_image(image: DecodedImage) -> PerceptualHash:
    """Return the perceptual hash of an image that was decoded by :func:`decode_for`."""
    bits, quality = image_hash(image.pixels)
    return PerceptualHash(bits.tobytes(), quality)


def decode_for(data: bytes, preprocessing: Preprocessing, limits: DecodeLimits) -> DecodedImage:
    """Decode the bytes of an image file at the smallest scale that serves a model.

    Raises:
        ImageError: they cannot be decoded.
    """
    size = preprocessing.resize.covered(preprocessing.height, preprocessing.width)
    min_size = DECODED_AT_LEAST if preprocessing.face else size
    return decode_image(data, min_size=min_size, limits=limits)


def fit_image(
    image: DecodedImage, preprocessing: Preprocessing, finder: FaceFinder | None
) -> list[tuple[Face | None, Pixels]]:
    """Resize an image to the input size of a model, or cut out its faces.

    Returns:
        uint8 (height, width, 3) RGB, one with None for its face or, with ``finder``, one for each
        chosen face, from left to right; at least one.

    Raises:
        ImageError: the image has no face, or several where one is required.
    """
    if finder is not None:
        return [*cut_faces(image, finder, preprocessing)]
    height, width = preprocessing.height, preprocessing.width
    return [(None, resize_image(image.pixels, height, width, preprocessing.resize))]
