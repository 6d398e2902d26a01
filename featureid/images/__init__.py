"""From the bytes of an image file to upright RGB pixels at the input size of a model."""

from __future__ import annotations

from featureid.images.decode import DecodedImage, DecodeLimits, decode_damaged, decode_image
from featureid.images.detectors import DETECTORS, open_detector
from featureid.images.face_finder import FaceFinder, FaceSettings
from featureid.images.resize import resize_image

__all__ = [
    "DETECTORS",
    "DecodeLimits",
    "DecodedImage",
    "FaceFinder",
    "FaceSettings",
    "decode_damaged",
    "decode_image",
    "open_detector",
    "resize_image",
]
