"""What a face detector is, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from featureid.images.align import Box, Point

Pixels = npt.NDArray[np.uint8]


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
        name: the name of the detector.
        landmarks: the kind of its landmarks; "" if it finds none.
        identity: what decides which faces it finds: its name and, if it has a model file, the
            digest of that.
    """

    name: str
    landmarks: str
    identity: str

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces in uint8 (h, w, 3) RGB, in any order."""
        ...
