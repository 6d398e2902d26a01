"""Short vectors whose products are bounds of scores, so that fewer numbers need be multiplied.

Vectors of a model hold most of what they say in few directions. Projected to those, with the length
of the rest as one number more, their product is no less than their score (Cauchy and Schwarz): only
pairs whose short vectors reach a threshold have to be looked at. How many directions are worth it
is measured on the rows themselves; of white noise none are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

#: What a product of bounds may be too low because its vectors are rounded.
ROUNDING = np.float32(1e-6)
# For fewer rows it is not worth measuring.
_LEAST_ROWS = 1 << 13
_SAMPLE = 1500
_WIDTHS = 8, 16, 24, 32, 48, 64, 96
# What a pair costs: a constant, each dimension, and being looked at, in nanoseconds (Zen 4).
_PAIR, _DIMENSION, _LOOK = 0.7, 0.03, 200.0
_ROWS_AT_ONCE = 1 << 14


def bounding_vectors(vectors: Matrix, threshold: float) -> Matrix:
    """Return for each row a short vector such that the product of two is no less than their score.

    Args:
        vectors: float32 (n, d) of unit length.
        threshold: the score that is asked for.

    Returns:
        float32 (n, w) with w from 9 to d; ``vectors`` themselves if shorter ones do not pay. A
        product may be too low by rounding, as one of ``vectors`` may, and by :data:`ROUNDING`.
    """
    directions = _directions(vectors, threshold)
    if directions is None:
        return vectors
    out = np.empty((len(vectors), directions.shape[1] + 1), np.float32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        out[part] = _shortened(vectors[part], directions)
    return out


def _directions(vectors: Matrix, threshold: float) -> npt.NDArray[np.float64] | None:
    """Return the directions to project to, float64 (d, w), or None if that does not pay."""
    if len(vectors) < _LEAST_ROWS:
        return None
    sample = vectors[:: len(vectors) // _SAMPLE].astype(np.float64)
    _, directions = np.linalg.eigh(sample.T @ sample)
    directions = directions[:, ::-1]  # those that hold most first
    dimension = vectors.shape[1]
    best, least = None, _PAIR + _DIMENSION * dimension
    for width in _WIDTHS:
        if width < dimension:
            short = _shortened(sample, directions[:, :width])
            share = float((short @ short.T >= threshold).mean()) - 1 / len(sample)
            cost = _PAIR + _DIMENSION * width + _LOOK * share
            if cost < least:
                best, least = directions[:, :width], cost
    return best


def _shortened(vectors: npt.NDArray[np.floating], directions: npt.NDArray[np.float64]) -> Matrix:
    wide = vectors.astype(np.float64)
    projected = wide @ directions
    rest = np.square(wide).sum(axis=1) - np.square(projected).sum(axis=1)
    # Raised by more than its rounding error.
    length = np.sqrt(np.maximum(rest, 0)) + 1e-7
    return np.concatenate([projected, length[:, np.newaxis]], axis=1).astype(np.float32)
