"""BlazeFace, the face detector of Google's MediaPipe, in its version for short range.

The network sees a square of an image at 128 x 128 pixels and rates 896 fixed places in it, the
anchors.  What is computed from its answers is MediaPipe's: scores through a sigmoid, boxes and
points relative to the anchor, and non-maximum suppression that averages what overlaps (Bazarevsky
et al., "BlazeFace: Sub-millisecond neural face detection on mobile GPUs", 2019, and
``face_detection_short_range.pbtxt`` of MediaPipe).

Faces and candidates are arrays of 6 points (x, y): the corners of the box, left top and right
bottom; the eyes, the one on the image's left first; the tip of the nose; the middle of the mouth.
The network's last two points, the ears, vary too much to align a face and are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from featureid.images.align import warp
from featureid.images.blazeface_network import SHA256, open_network
from featureid.images.face import DetectedFace, Pixels

Floats = npt.NDArray[np.float64]

SIDE = 128
# Cells on a side of the two grids of anchors, and anchors in each cell.
_GRIDS = ((16, 2), (8, 6))
_POINTS = 6
# MediaPipe's limits of a logit, and of the overlap (intersection over union) of different faces.
_LOGIT_LIMIT, _OVERLAP = 100.0, 0.3
# In photos without people, two in a hundred have a pattern above this score (docs/faces.md).
_SCORE = 0.7
# Tiles: sides in pixels, doubled while an image is clearly larger; each overlaps the next by a
# quarter. What has at least the first score is looked at again, in a square of twice its width.
_TILE, _TILE_OVERLAP, _LARGER = 256, 0.25, 1.25
_FIRST_SCORE, _SECOND_LOOK = 0.5, 2.0
_BATCH = 2


class Square(NamedTuple):
    """A square part of an image, which may extend beyond it, where it is black; in pixels."""

    left: float
    top: float
    side: float


class Candidates(NamedTuple):
    """Possible faces: logits (n,) and points (n, 6, 2)."""

    logits: Floats
    points: Floats

    def at(self, chosen: npt.NDArray[np.bool_ | np.intp]) -> Candidates:
        """Return some of them."""
        return Candidates(self.logits[chosen], self.points[chosen])


class BlazefaceDetector:
    """BlazeFace for short range, with four landmarks, run by ONNX Runtime.

    Args:
        tiles: if False, the image is seen as a whole, in which faces of at least an eighth of its
            longer side are found; if True, tiles of it are seen, too, in which smaller ones are,
            and every face is looked at twice.
    """

    landmarks = "blazeface"

    def __init__(self, *, tiles: bool = False) -> None:
        """Load the network.

        Raises:
            ModelError: its package is not installed, or damaged.
        """
        self.name = "blazeface-tiles" if tiles else "blazeface"
        self.identity = f"{self.name} {SHA256}"
        self._tiles = tiles
        self._network = open_network()

    def detect(self, pixels: Pixels) -> list[DetectedFace]:
        """Return the faces; see :meth:`featureid.images.face.FaceDetector.detect`."""
        height, width = pixels.shape[:2]
        if self._tiles:
            squares = [whole(height, width), *tiles(height, width)]
            found = self._seen_twice(pixels, merged(joined(self._look(pixels, squares))))
        else:
            found = joined(self._look(pixels, [whole(height, width)]))
        return _faces(merged(found.at(found.logits >= _logit(_SCORE))))

    def _look(self, pixels: Pixels, squares: Sequence[Square]) -> Iterator[Candidates]:
        """Yield what the network finds in each square, in coordinates of the image."""
        import cv2

        for start in range(0, len(squares), _BATCH):
            part = squares[start : start + _BATCH]
            # From -1 to 1, channels first.
            seen = cv2.dnn.blobFromImages(
                [cut_square(pixels, square) for square in part], 1 / 127.5, mean=(127.5,) * 3
            )
            for square, answer in zip(part, self._network(seen), strict=True):
                found = decode(answer, _FIRST_SCORE)
                yield Candidates(found.logits, found.points * square.side + square[:2])

    def _seen_twice(self, pixels: Pixels, first: Candidates) -> Candidates:
        """Return the candidates that are found again, with the mean of both logits.

        A small face, which fills little of a tile, is now seen at the size that suits the network,
        and a pattern rarely looks like a face twice.
        """
        looks = self._look(pixels, [around(points) for points in first.points])
        found = [Candidates(np.empty(0), np.empty((0, _POINTS, 2)))]
        for logit, points, again in zip(*first, looks, strict=True):
            same = again.at(overlaps(points, again.points) > _OVERLAP)
            best = same.at(np.argsort(-same.logits)[:1])
            found.append(Candidates((best.logits + logit) / 2, best.points))
        return joined(found)


def whole(height: int, width: int) -> Square:
    """Return the square around an image, with black bands if it is not square itself."""
    side = max(height, width)
    return Square((width - side) / 2, (height - side) / 2, side)


def tiles(height: int, width: int) -> list[Square]:
    """Return the tiles in which an image is searched, the smallest first; none if it is small."""
    found = []
    side = _TILE
    while side * _LARGER < max(height, width):
        found += [
            Square(left, top, side)
            for top in _starts(height, side)
            for left in _starts(width, side)
        ]
        side *= 2
    return found


def _starts(length: int, side: int) -> list[float]:
    """Return where tiles begin on one axis, evenly spaced; one is centered if it is longer."""
    room = length - side
    if room <= 0:
        return [room / 2]
    steps = math.ceil(room / (side * (1 - _TILE_OVERLAP)))
    return [room * step / steps for step in range(steps + 1)]


def around(points: Floats) -> Square:
    """Return the square in which a face is looked at again."""
    low, high = points[:2]
    side = float(max(high - low)) * _SECOND_LOOK
    left, top = (low + high - side) / 2
    return Square(float(left), float(top), side)


def cut_square(pixels: Pixels, square: Square) -> Pixels:
    """Return a square of an image, uint8 (h, w, 3), as the network sees it: (128, 128, 3)."""
    scale = SIDE / square.side
    matrix = np.array([[scale, 0, -scale * square.left], [0, scale, -scale * square.top]])
    return warp(pixels, matrix, SIDE, SIDE)


def anchors() -> Floats:
    """Return the middles of the anchors, (896, 2), in sides of the square."""
    found = []
    for cells, count in _GRIDS:
        middles = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(middles, middles)
        found.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), count, axis=0))
    return np.concatenate(found)


_ANCHORS = anchors()


def decode(answer: npt.NDArray[np.float32], score: float) -> Candidates:
    """Return what the network has found in one square.

    Args:
        answer: float32 (896, 17): for each anchor the logit, and then, in pixels of the square and
            relative to the anchor, the middle of the box, its size, and 6 points.
        score: what has a lower one is left out.

    Returns:
        Candidates, in sides of the square.
    """
    chosen = answer[:, 0] >= _logit(score)
    numbers = answer[chosen].astype(np.float64)
    places = numbers[:, 1:].reshape(-1, 8, 2) / SIDE
    size = places[:, 1].copy()
    places += _ANCHORS[chosen, None]
    corners = (places[:, 0] - size / 2, places[:, 0] + size / 2)
    points = np.stack([*corners, *places[:, 2:_POINTS].swapaxes(0, 1)], axis=1)
    return Candidates(np.clip(numbers[:, 0], -_LOGIT_LIMIT, _LOGIT_LIMIT), points)


def merged(candidates: Candidates) -> Candidates:
    """Return one candidate for each face, the most certain first.

    The most certain candidate stands for all that overlap with it: it keeps its logit and gets the
    mean of their points, weighted by their scores.  The same then happens with the others.
    """
    left = candidates.at(np.argsort(-candidates.logits, kind="stable"))
    logits, points = [], []
    while len(left.logits):
        same = overlaps(left.points[0], left.points) > _OVERLAP
        same[0] = True  # also if its box has no area
        weights = _score(left.logits[same])
        logits.append(left.logits[0])
        points.append(np.tensordot(weights / weights.sum(), left.points[same], 1))
        left = left.at(~same)
    return Candidates(np.array(logits), np.array(points).reshape(-1, _POINTS, 2))


def overlaps(points: Floats, others: Floats) -> Floats:
    """Return intersection over union of the box of one face and those of others, (n,)."""
    low = np.maximum(points[0], others[:, 0])
    high = np.minimum(points[1], others[:, 1])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    area = np.prod(points[1] - points[0])
    areas = np.prod(others[:, 1] - others[:, 0], axis=1)
    union = area + areas - shared
    ratio: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def joined(candidates: Iterable[Candidates]) -> Candidates:
    """Return all candidates as one object."""
    logits, points = zip(*candidates, strict=True)
    return Candidates(np.concatenate(logits), np.concatenate(points))


def _faces(candidates: Candidates) -> list[DetectedFace]:
    found = []
    for logit, points in zip(*candidates, strict=True):
        (left, top), (right, bottom), *landmarks = points.tolist()
        places = tuple((x, y) for x, y in landmarks)
        found.append(DetectedFace((left, top, right, bottom), places, float(_score(logit))))
    return found


def _logit(score: float) -> float:
    return math.log(score / (1 - score))


def _score(logits: Floats) -> Floats:
    scores: Floats = 1 / (1 + np.exp(-logits))
    return scores
