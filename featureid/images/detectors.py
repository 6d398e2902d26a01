"""Face detectors: from an image to boxes, landmarks and scores.

All of them release the interpreter's lock while they work (``benchmarks/faces.py`` measures it), so
that threads use all cores. A detector is for one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from featureid.errors import ModelError, UsageError
from featureid.images.blazeface import BlazefaceDetector
from featureid.images.dlib_faces import DlibDetector
from featureid.images.face import DetectedFace, FaceDetector, Pixels
from featureid.known_files import KnownFile

DEFAULT_DETECTOR = "dlib"
_HAAR_FILE = "haarcascade_frontalface_default.xml"
_HAAR = KnownFile(
    930_127,
    "0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0",
    "install opencv-python-headless again",
)
_HAAR_STEP, _HAAR_NEIGHBORS, _HAAR_SMALLEST = 1.1, 5, 20
YUNET_FILE = "face_detection_yunet_2023mar.onnx"
_YUNET = KnownFile(
    232_589,
    "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    f"download {YUNET_FILE} from OpenCV's model zoo, and put it there or name it with "
    "`detector_model`",
)
# At lower scores YuNet takes patterns for faces; OpenCV's default is 0.9.
_YUNET_SCORE, _YUNET_OVERLAP, _YUNET_CANDIDATES = 0.7, 0.3, 5000


class HaarDetector:
    """OpenCV's Haar cascade for frontal faces (Viola and Jones), without landmarks."""

    name = identity = "haar"
    landmarks = ""

    def __init__(self) -> None:
        """Load the cascade that OpenCV's package contains.

        Raises:
            ModelError: OpenCV lacks it, or its file is damaged.
        """
        import cv2

        if not hasattr(cv2, "CascadeClassifier"):
            raise ModelError(
                f"OpenCV {cv2.__version__} lacks the detector haar: "
                "pip install 'opencv-python-headless<5'"
            )
        from cv2.data import haarcascades

        file = Path(haarcascades, _HAAR_FILE)
        _HAAR.read(file)  # OpenCV may crash on a damaged cascade, or find other faces with it
        self._cascade = cv2.CascadeClassifier(str(file))

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`featureid.images.face.FaceDetector.detect`."""
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


class YunetDetector:
    """YuNet (Wu, Peng and Yu, 2023), run by OpenCV, with five landmarks.

    Args:
        model: path of its ONNX file.
    """

    name = landmarks = "yunet"
    identity = f"yunet {_YUNET.sha256}"

    def __init__(self, model: Path) -> None:
        """Load the model.

        Raises:
            ModelError: the file cannot be read, or is damaged or another one.
        """
        import cv2

        data = _YUNET.read(model)  # OpenCV may crash on a damaged network, or run it
        self._detector = cv2.FaceDetectorYN.create(
            "onnx",
            np.frombuffer(data, np.uint8),
            np.empty(0, np.uint8),
            (0, 0),
            _YUNET_SCORE,
            _YUNET_OVERLAP,
            _YUNET_CANDIDATES,
        )

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`featureid.images.face.FaceDetector.detect`."""
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
    "blazeface": lambda _: BlazefaceDetector(),
    "blazeface-tiles": lambda _: BlazefaceDetector(tiles=True),
    "yunet": YunetDetector,
    "haar": lambda _: HaarDetector(),
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
