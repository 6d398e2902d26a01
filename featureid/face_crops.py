"""The faces of an image, found and cropped for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, UsageError
from featureid.images import (
    DecodedImage,
    FaceFinder,
    FaceSettings,
    open_detector,
    resize_image,
)
from featureid.images.detectors import YUNET_FILE
from featureid.images.face import DetectedFace
from featureid.images.face_finder import MAX_DETECTION_SIDE
from featureid.models import Preprocessing
from featureid.models.cache import cache_folder
from featureid.models.preprocessing import FaceCrop
from featureid.storage.records import WHOLE_IMAGE, Face

Pixels = npt.NDArray[np.uint8]

# A JPEG is decoded to at least twice this, which is all that detection uses.
DECODED_AT_LEAST = (MAX_DETECTION_SIDE // 2, MAX_DETECTION_SIDE // 2)


def open_face_finder(settings: FaceSettings, crop: FaceCrop | None = None) -> FaceFinder:
    """Return a face finder with the detector of ``settings``, for one thread at a time.

    Args:
        settings: which faces are taken.
        crop: how a model wants them; None to find faces for no model.

    Raises:
        ModelError: the detector is not installed, or its model cannot be loaded.
        UsageError: the model cannot align faces by the landmarks of this detector.
    """
    model = settings.detector_model or yunet_file()
    detector = open_detector(settings.detector, Path(model))
    return FaceFinder(detector, settings, crop.templates if crop else None)


def yunet_file() -> Path:
    """Return the default path of YuNet's model."""
    return cache_folder() / "detectors" / YUNET_FILE


def finder_for(preprocessing: Preprocessing, settings: FaceSettings | None) -> FaceFinder | None:
    """Return the face finder for a model, or None if the model takes whole images.

    Raises:
        UsageError: ``settings`` are given, but the model takes whole images.
        ModelError: as :func:`open_face_finder`.
    """
    if preprocessing.face:
        return open_face_finder(settings or FaceSettings(), preprocessing.face)
    if settings:
        raise UsageError("this model takes whole images, not faces; choose `model='face'`")
    return None


def digest_of_run(preprocessing: Preprocessing, finder: FaceFinder | None) -> str:
    """Return the digest of the whole preprocessing: that of the model, and finding faces."""
    return preprocessing.digest_with(finder.digested) if finder else preprocessing.digest


def locate_faces(image: DecodedImage, finder: FaceFinder) -> list[Face]:
    """Return the chosen faces of an image, in pixels of the upright original.

    Raises:
        ImageError: stage ``detect``, reason ``several-faces``.
    """
    x, y = _scale(image)
    found = finder.find(image.pixels, x)
    return [_located(index, face.scaled(x, y)) for index, face in enumerate(found)]


def cut_faces(
    image: DecodedImage, finder: FaceFinder, preprocessing: Preprocessing
) -> list[tuple[Face, Pixels]]:
    """Return the chosen faces of an image, each with its pixels for the model.

    Args:
        image: decoded with ``min_size=DECODED_AT_LEAST``.
        finder: finds and chooses the faces.
        preprocessing: that of a face model.

    Returns:
        At least one face, from left to right, with uint8 (height, width, 3).

    Raises:
        ImageError: stage ``detect``, reason ``no-face`` or ``several-faces``.
        ValueError: the preprocessing is that of a model of whole images.
    """
    crop = preprocessing.face
    if crop is None:
        raise ValueError("the preprocessing is that of a model of whole images")
    size = preprocessing.height, preprocessing.width
    x, y = _scale(image)
    found = finder.find(image.pixels, x)
    if not found:
        return [_whole(image, finder.settings, preprocessing)]
    return [
        (
            _located(index, face.scaled(x, y)),
            finder.cut(image.pixels, face, crop.margin, size),
        )
        for index, face in enumerate(found)
    ]


def _scale(image: DecodedImage) -> tuple[float, float]:
    """Return how many times wider and higher the original is than the decoded pixels."""
    height, width = image.pixels.shape[:2]
    return image.width / width, image.height / height


def _located(index: int, face: DetectedFace) -> Face:
    return Face(index, face.box, face.landmarks, face.score)


def _whole(
    image: DecodedImage, settings: FaceSettings, preprocessing: Preprocessing
) -> tuple[Face, Pixels]:
    if settings.no_face == "skip":
        raise ImageError(
            "detect",
            "no-face",
            f"no face of {settings.min_face} or more pixels was found in {image.width} x "
            f"{image.height} pixels: lower `min_face`, or take whole images with `no_face='whole'`",
        )
    box = (0.0, 0.0, float(image.width), float(image.height))
    size = preprocessing.height, preprocessing.width
    return Face(WHOLE_IMAGE, box), resize_image(image.pixels, *size, preprocessing.resize)
