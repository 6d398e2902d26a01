"""Find the faces of an image, choose among them, and crop them for a model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError, UsageError
from featureid.images.align import Point, box_transform, similarity_transform, warp
from featureid.images.detectors import DEFAULT_DETECTOR, DETECTORS
from featureid.images.dlib_faces import DlibDetector, DlibLandmarks
from featureid.images.face import DetectedFace, FaceDetector
from featureid.images.opencv import single_threaded

Pixels = npt.NDArray[np.uint8]
FaceChoice = Literal["largest", "center", "all", "require-one"]
NoFace = Literal["skip", "whole"]

DEFAULT_MIN_FACE = 20
# Larger images are shrunk to this many pixels on the longer side for detection: its time grows with
# the area, and a face that is 80 pixels wide then has a twentieth of the width.
MAX_DETECTION_SIDE = 1600
# Detectors misbehave on a few pixels (YuNet fails, Haar takes noise for faces).
_MIN_IMAGE_SIDE = 16
_DLIB = DlibDetector.landmarks
_LINE = re.compile(
    r"(?P<detector>\S+) \S+ min-face=(?P<min_face>\d+) no-face=(?P<no_face>\S+)(?P<box> box)?"
)


@dataclass(frozen=True)
class FaceSettings:
    """Which faces are taken.

    Attributes:
        choose: ``largest``; ``center``, the face nearest to the center of the image; ``all``; or
            ``require-one``, which fails an image with several.
        detector: one of :data:`DETECTORS`.
        min_face: faces whose shorter side has fewer pixels of the original are ignored.
        no_face: without a face, ``skip`` fails the image and ``whole`` takes all of it.
        detector_model: path of YuNet's file; "" for the one in the cache.
        align: if False, the box is cropped, and landmarks stay those of the detector.

    Raises:
        UsageError: a value is not allowed.
    """

    choose: FaceChoice = "largest"
    detector: str = DEFAULT_DETECTOR
    min_face: int = DEFAULT_MIN_FACE
    no_face: NoFace = "skip"
    detector_model: str = ""
    align: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        known = {
            "choose": get_args(FaceChoice),
            "detector": DETECTORS,
            "no_face": get_args(NoFace),
        }
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise UsageError(
                    f"`{'faces' if name == 'choose' else name}` is {getattr(self, name)!r}; known: "
                    + ", ".join(values)
                )
        if self.min_face < 1:
            raise UsageError(f"`min_face` is {self.min_face} pixels; give 1 or more")
        if self.detector_model and self.detector != "yunet":
            raise UsageError(
                f"the detector {self.detector} takes no model file; give `detector='yunet'`"
            )


class FaceFinder:
    """A detector with its settings, for one thread at a time.

    The chosen faces keep the landmarks of their detector if the model knows these, and get dlib's
    if it knows only those; the detector ``haar`` finds none, and its faces are cropped by the box.

    Args:
        detector: the detector that ``settings`` names.
        settings: which faces are taken.
        templates: kind of landmarks to their positions in the input of a model; None to find faces
            for no model, with the detector's own landmarks.

    Raises:
        UsageError: the model cannot align faces by the landmarks of this detector.
        ModelError: dlib is not installed, whose landmarks are needed.
    """

    def __init__(
        self,
        detector: FaceDetector,
        settings: FaceSettings,
        templates: Mapping[str, Sequence[Point]] | None = None,
    ) -> None:
        self._detector = detector
        self._template: Sequence[Point] | None = None
        self._dlib: DlibLandmarks | None = None
        self._landmarks = detector.landmarks
        self.settings = settings
        if settings.align and detector.landmarks and templates is not None:
            self._align_by(templates)

    def _align_by(self, templates: Mapping[str, Sequence[Point]]) -> None:
        if self._landmarks not in templates:
            if _DLIB not in templates:
                raise UsageError(
                    f"this model cannot align faces by the landmarks of the detector "
                    f"{self._detector.name}, {self._landmarks!r}; it knows "
                    f"{', '.join(templates) or 'none'}: choose another `detector`"
                )
            self._landmarks = _DLIB
            self._dlib = DlibLandmarks()
        self._template = templates[self._landmarks]

    @property
    def line(self) -> str:
        """How faces are found and chosen, in one line to show, store and compare."""
        settings = self.settings
        words = [self._detector.name, settings.choose, f"min-face={settings.min_face}"]
        return " ".join([*words, f"no-face={settings.no_face}", *["box"] * (not settings.align)])

    @property
    def digested(self) -> Mapping[str, Any]:
        """What decides the pixels of a face, to be part of a digest."""
        return {
            "detector": self._detector.identity,
            "detection_side": MAX_DETECTION_SIDE,
            "align": self.settings.align,
            "landmarks": self._landmarks,
            "no_face": self.settings.no_face,
        }

    def find(self, pixels: Pixels, scale: float = 1.0) -> list[DetectedFace]:
        """Return the chosen faces of an image, from left to right.

        Args:
            pixels: uint8 (h, w, 3) RGB, upright.
            scale: how many times larger the original is, for ``min_face``.

        Raises:
            ImageError: stage ``detect``, reason ``several-faces``: exactly one is required.
        """
        found = [
            face
            for face in detect_bounded(self._detector, pixels)
            if _shorter_side(face) * scale >= self.settings.min_face
        ]
        height, width = pixels.shape[:2]
        chosen = choose_faces(found, self.settings.choose, (width / 2, height / 2))
        if self._dlib is None:
            return chosen
        with single_threaded():
            return [self._dlib.of(pixels, face, self._detector.landmarks) for face in chosen]

    def cut(
        self, pixels: Pixels, face: DetectedFace, margin: float, size: tuple[int, int]
    ) -> Pixels:
        """Return a face as the input of a model, uint8 (height, width, 3).

        Args:
            pixels: uint8 (h, w, 3), the image in which :meth:`find` found the face.
            face: the face.
            margin: added around the box of a face that is not aligned.
            size: (height, width) of the result.
        """
        height, width = size
        if self._template:
            matrix = similarity_transform(face.landmarks, self._template)
        else:
            matrix = box_transform(face.box, margin, width, height)
        with single_threaded():
            return warp(pixels, matrix, width, height)


def detect_bounded(detector: FaceDetector, pixels: Pixels) -> list[DetectedFace]:
    """Return all faces of an image, which is shrunk to :data:`MAX_DETECTION_SIDE` pixels if larger.

    Args:
        detector: finds the faces.
        pixels: uint8 (h, w, 3) RGB.

    Returns:
        The faces whose box has an area, in coordinates of ``pixels``.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < _MIN_IMAGE_SIDE:
        return []
    with single_threaded():
        seen = _shrunk(pixels)
        found = detector.detect(seen)
    x, y = width / seen.shape[1], height / seen.shape[0]
    return [face for face in (face.scaled(x, y) for face in found) if _shorter_side(face) > 0]


def _shrunk(pixels: Pixels) -> Pixels:
    import cv2

    height, width = pixels.shape[:2]
    scale = MAX_DETECTION_SIDE / max(height, width)
    if scale >= 1:
        return pixels
    size = [max(_MIN_IMAGE_SIDE, round(n * scale)) for n in (width, height)]
    result: Pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return result


def choose_faces(
    faces: Sequence[DetectedFace], choice: FaceChoice, middle: Point
) -> list[DetectedFace]:
    """Return the faces that ``choice`` selects, from left to right by the centers of their boxes.

    Args:
        faces: all faces, in any order.
        choice: see :class:`FaceSettings`.
        middle: the center of the image.

    Raises:
        ImageError: stage ``detect``, reason ``several-faces``: exactly one is required.
    """
    ordered = sorted(faces, key=lambda face: (_middle(face), face.box))
    if choice == "all" or len(ordered) < 2:
        return ordered
    if choice == "require-one":
        raise ImageError(
            "detect",
            "several-faces",
            f"{len(ordered)} faces were found where one is required: crop the image, or take the "
            "largest, the central one or all, with `faces`",
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


def settings_of_line(line: str, choose: FaceChoice = "largest") -> FaceSettings:
    """Return the settings behind a :attr:`FaceFinder.line`, but for which faces are chosen.

    Args:
        line: what a snapshot of faces records.
        choose: which faces of a query to take; that of the snapshot says how a gallery was made.

    Raises:
        UsageError: the line is that of another version.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise UsageError(f"faces were found in a way that this version does not know: {line!r}")
    return FaceSettings(
        choose=choose,
        detector=match["detector"],
        min_face=int(match["min_face"]),
        no_face=cast(NoFace, match["no_face"]),
        align=match["box"] is None,
    )
