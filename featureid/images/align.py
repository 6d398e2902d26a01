"""Crop a face from an image, at the position and size that a model expects.

Coordinates are in pixels, (x, y), with 0 at the left or upper edge of the first pixel: scaling an
image only multiplies them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Point = tuple[float, float]
Box = tuple[float, float, float, float]
Matrix = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]


def similarity_transform(source: Sequence[Point], target: Sequence[Point]) -> Matrix:
    """Return the rotation, scaling and shift that moves ``source`` closest to ``target``.

    This is the least-squares solution (Umeyama, 1991): for points of a plane, as complex numbers,
    a single division.  It never mirrors.

    Args:
        source: at least 2 different points.
        target: the same number of points.

    Returns:
        float64 (2, 3): ``[[a, -b, x], [b, a, y]]``.

    Raises:
        ValueError: the numbers of points differ or are below 2, or all points are the same.
    """
    if len(source) != len(target) or len(source) < 2:
        raise ValueError(
            f"{len(source)} points cannot be moved to {len(target)}: give as many, at least 2"
        )
    p = np.array(source, np.float64) @ (1, 1j)
    q = np.array(target, np.float64) @ (1, 1j)
    centered = p - p.mean()
    spread = float(np.vdot(centered, centered).real)
    if not spread > 0:
        raise ValueError("points that are all the same have no direction")
    turn = np.vdot(centered, q - q.mean()) / spread
    shift = q.mean() - turn * p.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def box_transform(box: Box, margin: float, width: int, height: int) -> Matrix:
    """Return the transform, float64 (2, 3), of the square around a box to ``width`` x ``height``.

    Args:
        box: left, top, right, bottom.
        margin: added to the square on every side, as a fraction of the box's longer side.
        width: columns of the result.
        height: rows of the result.
    """
    left, top, right, bottom = box
    side = max(right - left, bottom - top) * (1 + 2 * margin)
    x, y = width / side, height / side
    return np.array(
        [
            [x, 0, width / 2 - x * (left + right) / 2],
            [0, y, height / 2 - y * (top + bottom) / 2],
        ]
    )


def warp(pixels: Pixels, matrix: Matrix, width: int, height: int) -> Pixels:
    """Return the part of an image that a transform moves to ``width`` x ``height``, bilinear.

    Pixels outside the image are black, as in the crops that dlib's network was trained on.  A large
    face is first shrunk by averaging, since interpolation alone would skip pixels.

    Args:
        pixels: uint8 (h, w, 3).
        matrix: float64 (2, 3), from coordinates of the image to those of the result.
        width: columns of the result.
        height: rows of the result.

    Returns:
        uint8 (height, width, 3).
    """
    import cv2

    scale = float(np.sqrt(np.abs(np.linalg.det(matrix[:, :2]))))
    factor = int(1 / scale)
    if factor > 1:
        pixels, matrix = _shrunk(pixels, matrix, width, height, factor)
    # In OpenCV, 0 is the center of the first pixel.
    shift = matrix @ (0.5, 0.5, 1) - 0.5
    result: Pixels = cv2.warpAffine(
        pixels,
        np.column_stack([matrix[:, :2], shift]),
        (width, height),
        flags=cv2.INTER_LINEAR,
    )
    return result


def _shrunk(
    pixels: Pixels, matrix: Matrix, width: int, height: int, factor: int
) -> tuple[Pixels, Matrix]:
    """Return the visible part of an image, ``factor`` times smaller, and its transform."""
    import cv2

    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    corners = np.array([(x, y, 1) for x in (0, width) for y in (0, height)]) @ inverse.T
    limits = (pixels.shape[1], pixels.shape[0])
    # One more averaged pixel on every side, so that the border of the part is never visible.
    low = np.clip(np.floor(corners.min(0)).astype(int) - 2 * factor, 0, limits)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2 * factor, low + 1, None)
    part = pixels[low[1] : high[1], low[0] : high[0]]
    if not part.size:
        return pixels, matrix  # the box is outside the image: the result is black
    size = [max(1, round(n / factor)) for n in (part.shape[1], part.shape[0])]
    step = np.array([part.shape[1] / size[0], part.shape[0] / size[1]])
    turn = matrix[:, :2] * step
    shift = matrix[:, :2] @ low + matrix[:, 2]
    small: Pixels = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    return small, np.column_stack([turn, shift])
