"""Find the faces of a picture, choose among them, and cut them out for a model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, UsageError
from featureid.images.align import Point, box_transform, similarity_transform, warp
from featureid.images.detectors import DETECTORS, DetectedFace, FaceDetector

Pixels = npt.NDArray[np.uint8]
FaceChoice = Literal["largest", "center", "all", "require-one"]
NoFace = Literal["skip", "whole"]

DEFAULT_MIN_FACE = 20
# Detectors look at pictures of up to this many pixels on the longer side: the time they take grows
# with the area, and a face that is 80 pixels wide here is a twentieth of the picture.
MAX_DETECTION_SIDE = 1600
# Detectors misbehave on a few pixels (YuNet fails, Haar takes noise for faces); no face is there.
_MIN_PICTURE_SIDE = 16


@dataclass(frozen=True)
class FaceSettings:
    """Which faces to take.

    Attributes:
        choose: ``largest``, ``center`` (whose middle is nearest to the picture's), ``all``, or
            ``require-one``, for which several are a failure.
        detector: one of :data:`DETECTORS`; "" means ``dlib`` where it is installed, else ``haar``.
        min_face: smaller faces do not count; pixels of the upright original, shorter side.
        no_face: without a face ``skip`` fails the image, ``whole`` takes all of it.
        detector_model: YuNet's file; "" means the one in the cache.
        align: False cuts out the box even where there are landmarks.

    Raises:
        UsageError: a value is not one of these.
    """

    choose: FaceChoice = "largest"
    detector: str = ""
    min_face: int = DEFAULT_MIN_FACE
    no_face: NoFace = "skip"
    detector_model: str = ""
    align: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        known = {
            "choose": get_args(FaceChoice),
            "detector": ("", *DETECTORS),
            "no_face": get_args(NoFace),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise UsageError(
                    f"faces: {name} is {getattr(self, name)!r}; known: "
                    + ", ".join(filter(None, values))
                )
        if self.min_face < 1:
            raise UsageError(f"the smallest face is {self.min_face} pixels; give 1 or more")
        if self.detector_model and self.detector != "yunet":
            raise UsageError("only the detector yunet takes a model file; add --detector yunet")


class FaceFinder:
    """A detector with its settings; for one thread at a time.

    Args:
        detector: what finds the faces; the one that ``settings`` names.
        settings: which of them are taken.
    """

    def __init__(self, detector: FaceDetector, settings: FaceSettings) -> None:
        self._detector = detector
        self.settings = settings

    @property
    def line(self) -> str:
        """How faces are found and chosen: one line, to be shown, stored and compared."""
        settings = self.settings
        words = [self._detector.name, settings.choose, f"min-face={settings.min_face}"]
        return " ".join([*words, f"no-face={settings.no_face}", *["box"] * (not settings.align)])

    @property
    def digested(self) -> Mapping[str, Any]:
        """What of all this decides the pixels of a face, to be part of a digest."""
        return {
            "detector": self._detector.identity,
            "detection_side": MAX_DETECTION_SIDE,
            "align": self.settings.align,
            "no_face": self.settings.no_face,
        }

    def find(self, pixels: Pixels, scale: float = 1.0) -> list[DetectedFace]:
        """Return the chosen faces of a picture, from left to right; none if there is none.

        Args:
            pixels: uint8 (h, w, 3) RGB, upright.
            scale: how many times larger the original is, for ``min_face``.

        Raises:
            ImageError: reason ``several-faces``, if exactly one is required.
        """
        found = [
            face
            for face in detect_bounded(self._detector, pixels)
            if _shorter_side(face) * scale >= self.settings.min_face
        ]
        height, width = pixels.shape[:2]
        return choose_faces(found, self.settings.choose, (width / 2, height / 2))

    def cut(
        self,
        pixels: Pixels,
        face: DetectedFace,
        templates: Mapping[str, Sequence[Point]],
        margin: float,
        size: tuple[int, int],
    ) -> Pixels:
        """Return a face as a model wants it, uint8 (height, width, 3).

        Args:
            pixels: uint8 (h, w, 3), the picture in which :meth:`find` found the face.
            face: the face.
            templates: where landmarks belong in the result, by detector.
            margin: around the box, if the detector has no landmarks or no template.
            size: height and width of the result.
        """
        height, width = size
        template = templates.get(self._detector.name)
        if self.settings.align and template and len(face.landmarks) == len(template):
            matrix = similarity_transform(face.landmarks, template)
        else:
            matrix = box_transform(face.box, margin, width, height)
        return warp(pixels, matrix, width, height)


def detect_bounded(detector: FaceDetector, pixels: Pixels) -> list[DetectedFace]:
    """Return all faces of a picture, looked for at up to :data:`MAX_DETECTION_SIDE` pixels.

    Args:
        detector: what looks for them.
        pixels: uint8 (h, w, 3) RGB.

    Returns:
        The faces, in coordinates of ``pixels``, those that are no area left out.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < _MIN_PICTURE_SIDE:
        return []
    side = max(height, width)
    seen = pixels
    if side > MAX_DETECTION_SIDE:
        import cv2

        small = [
            max(_MIN_PICTURE_SIDE, round(n * MAX_DETECTION_SIDE / side)) for n in (width, height)
        ]
        seen = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    scale = width / seen.shape[1], height / seen.shape[0]
    found = [face.scaled(*scale) for face in detector.detect(seen)]
    return [face for face in found if _shorter_side(face) > 0]


def choose_faces(
    faces: Sequence[DetectedFace], choice: FaceChoice, middle: Point
) -> list[DetectedFace]:
    """Return the faces that ``choice`` asks for, from left to right by the middles of their boxes.

    Args:
        faces: all of them, in any order.
        choice: see :class:`FaceSettings`.
        middle: of the picture.

    Raises:
        ImageError: stage ``detect``, reason ``several-faces``, if exactly one is required.
    """
    ordered = sorted(faces, key=lambda face: (_middle(face), face.box))
    if choice == "all" or len(ordered) < 2:
        return ordered
    if choice == "require-one":
        raise ImageError(
            "detect",
            "several-faces",
            f"{len(ordered)} faces were found where one is required: crop the picture, or choose "
            "with --faces",
        )
    if choice == "center":
        return [min(ordered, key=lambda face: math.dist(_middle(face), middle))]
    return [max(ordered, key=_area)]


def _shorter_side(face: DetectedFace) -> float:
    left, top, right, bottom = face.box
    return min(right - left, bottom - top)


def _middle(face: DetectedFace) -> Point:
    left, top, right, bottom = face.box
    return (left + right) / 2, (top + bottom) / 2


def _area(face: DetectedFace) -> float:
    left, top, right, bottom = face.box
    return (right - left) * (bottom - top)
