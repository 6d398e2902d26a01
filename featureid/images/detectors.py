"""Face detectors: from an image to boxes, landmarks and scores.

All of them release the interpreter's lock while they work (``benchmarks/faces.py`` measures it), so
that threads use all cores. A detector is for one thread at a time.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError, UsageError
from featureid.images.align import Box, Point

Pixels = npt.NDArray[np.uint8]

DEFAULT_DETECTOR = "dlib"
_INSTALL_DLIB = "pip install 'featureid[faces]'"
_POINTS_PACKAGE = "face_recognition_models"
_POINTS_FILE = "models/shape_predictor_5_face_landmarks.dat"
_POINTS_SHA256 = "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888"
_HAAR_FILE = "haarcascade_frontalface_default.xml"
_HAAR_STEP, _HAAR_NEIGHBORS, _HAAR_SMALLEST = 1.1, 5, 20
# dlib's own threshold is 0, at which patterns are taken for faces. In 100 photos of people no face
# scored below 0.3, and no pattern above 0.2.
_DLIB_SCORE = 0.25
# dlib rounds landmarks to whole pixels. A narrower face is enlarged to this width first, so that
# noise, for example of another JPEG compression, changes its vector less.
_DLIB_LANDMARK_WIDTH = 300
# At lower scores YuNet takes patterns for faces; OpenCV's default is 0.9.
_YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES = 0.7, 0.3, 5000


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face in an image; coordinates as in :mod:`featureid.images.align`.

    Attributes:
        box: left, top, right, bottom; may extend beyond the image.
        landmarks: up to five points, or none; their meaning depends on the detector.
        score: higher is more certain.
    """

    box: Box
    landmarks: tuple[Point, ...]
    score: float

    def scaled(self, x: float, y: float) -> DetectedFace:
        """Return the same face in an image ``x`` times as wide and ``y`` times as high."""
        left, top, right, bottom = self.box
        box = (left * x, top * y, right * x, bottom * y)
        return DetectedFace(box, tuple((px * x, py * y) for px, py in self.landmarks), self.score)


class FaceDetector(Protocol):
    """Finds faces.

    Attributes:
        name: the name of the detector, which is also the kind of its landmarks.
        identity: what decides which faces it finds: its name and, if it has a model file, the
            digest of that.
    """

    name: str
    identity: str

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces in uint8 (h, w, 3) RGB, in any order."""
        ...


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces (Viola and Jones), without landmarks."""

    name = identity = "haar"

    def __init__(self) -> None:
        """Load the cascade that OpenCV's package contains."""
        import cv2

        if not hasattr(cv2, "CascadeClassifier"):
            raise ModelError(
                f"OpenCV {cv2.__version__} lacks the detector haar: "
                "pip install 'opencv-python-headless<5'"
            )
        from cv2.data import haarcascades

        self._cascade = cv2.CascadeClassifier(haarcascades + _HAAR_FILE)
        if self._cascade.empty():
            raise ModelError(
                f"{haarcascades} lacks {_HAAR_FILE}: install opencv-python-headless again"
            )

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`FaceDetector.detect`."""
        import cv2

        boxes, _, weights = self._cascade.detectMultiScale3(
            cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY),
            scaleFactor=_HAAR_STEP,
            minNeighbors=_HAAR_NEIGHBORS,
            minSize=(_HAAR_SMALLEST, _HAAR_SMALLEST),
            outputRejectLevels=True,
        )
        return [
            DetectedFace((float(x), float(y), float(x + w), float(y + h)), (), float(weight))
            for (x, y, w, h), weight in zip(boxes, weights, strict=True)
        ]


class DlibDetector:
    """dlib's HOG detector for frontal faces of at least 80 pixels, and its five landmarks."""

    name = identity = "dlib"

    def __init__(self) -> None:
        """Load the detector and the landmarks."""
        if not dlib_is_installed():
            raise ModelError(
                f"the detector dlib is not installed: {_INSTALL_DLIB}, or choose the detector haar "
                "or yunet"
            )
        import dlib

        self._detector = pickle.loads(_frontal_detector())
        self._predictor = _landmark_predictor()
        self._rectangle = dlib.rectangle

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`FaceDetector.detect`."""
        found = []
        boxes, scores, _ = self._detector.run(pixels, 0, _DLIB_SCORE)
        for box, score in zip(boxes, scores, strict=True):
            edges = (box.left(), box.top(), box.right() + 1, box.bottom() + 1)
            left, top, right, bottom = map(float, edges)
            landmarks = self._landmarks(pixels, edges)
            found.append(DetectedFace((left, top, right, bottom), landmarks, float(score)))
        return found

    def _landmarks(
        self, pixels: Pixels, edges: tuple[int, int, int, int]
    ) -> tuple[tuple[float, float], ...]:
        import cv2

        left, top, right, bottom = edges
        room = (right - left) // 2
        x, y = max(0, left - room), max(0, top - room)
        part = pixels[y : bottom + room, x : right + room]
        factor = max(1, math.ceil(_DLIB_LANDMARK_WIDTH / (right - left)))
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


class YunetDetector:
    """YuNet (Wu, Peng and Yu, 2023), run by OpenCV, with five landmarks."""

    name = "yunet"

    def __init__(self, model: Path) -> None:
        """Load YuNet's ONNX file ``model``."""
        import cv2

        try:
            data = model.read_bytes()
        except OSError as error:
            raise ModelError(
                f"the detector yunet cannot read its model {model}: {error.strerror}. Download "
                "face_detection_yunet_2023mar.onnx from OpenCV's model zoo, and put it there or "
                "name it with `detector_model`"
            ) from error
        self.identity = f"yunet {hashlib.sha256(data).hexdigest()}"
        try:
            self._detector = cv2.FaceDetectorYN.create(
                "onnx",
                np.frombuffer(data, np.uint8),
                np.empty(0, np.uint8),
                (0, 0),
                _YUNET_SCORE,
                _YUNET_OVERLAP,
                _YUNET_CANDIDATES,
            )
        except cv2.error as error:
            raise ModelError(f"OpenCV cannot load the model {model}: {error.err}") from error

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`FaceDetector.detect`."""
        import cv2

        self._detector.setInputSize((pixels.shape[1], pixels.shape[0]))
        _, rows = self._detector.detect(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        found = []
        for row in [] if rows is None else rows.tolist():
            left, top, width, height = row[:4]
            points = tuple(zip(row[4:14:2], row[5:14:2], strict=True))
            box = (left, top, left + width, top + height)
            found.append(DetectedFace(box, points, row[14]))
        return found


_DETECTORS: dict[str, Callable[[Path], FaceDetector]] = {
    "dlib": lambda _: DlibDetector(),
    "haar": lambda _: HaarDetector(),
    "yunet": YunetDetector,
}
DETECTORS = tuple(_DETECTORS)


def open_detector(name: str, yunet_model: Path) -> FaceDetector:
    """Return a detector, which is for one thread at a time.

    Args:
        name: one of :data:`DETECTORS`.
        yunet_model: path of YuNet's ONNX file; the packages of the others contain theirs.

    Raises:
        UsageError: the detector is unknown.
        ModelError: it is not installed, or its model cannot be loaded.
    """
    if name not in _DETECTORS:
        raise UsageError(f"unknown detector {name!r}; known: {', '.join(DETECTORS)}")
    return _DETECTORS[name](yunet_model)


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

    spec = importlib.util.find_spec(_POINTS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"the package {_POINTS_PACKAGE} is not installed: {_INSTALL_DLIB}")
    path = Path(spec.submodule_search_locations[0]) / _POINTS_FILE
    if hashlib.sha256(path.read_bytes()).hexdigest() != _POINTS_SHA256:
        raise ModelError(f"{path} has another SHA-256: install {_POINTS_PACKAGE} again")
    return dlib.shape_predictor(str(path))
