"""Linear maps from the features of a network to fewer numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import ModelError, UsageError
from featureid.models.features import Reduction

_GRID = 2.0**16
_MAX_ELEMENTS = 1 << 26  # half a gigabyte in float64
_RELATIVE_NOISE = 1e-6  # of float32 features


def projection(features: int, dimension: int, seed: int) -> npt.NDArray[np.float32]:
    """Return a fixed random matrix (features, dimension) with orthonormal columns.

    Orthogonal random projections nearly preserve angles (Johnson and Lindenstrauss).  The result
    must have the same bits on every machine.  Therefore each number before orthogonalization is the
    exact sum of 12 uniform ones (close to Gaussian) from PCG64's raw stream, which NumPy guarantees
    not to change, unlike its ``standard_normal``; and the result is rounded to multiples of 2**-16,
    far coarser than the digits in which two LAPACKs differ.  The columns stay orthonormal to 3e-5.
    """
    words = np.random.PCG64(seed).random_raw(features * dimension * 3).astype("<u8")
    gaussian = words.view("<u2").reshape(features, dimension, 12).sum(-1, np.float64) - 6 * 65535.0
    q, r = np.linalg.qr(gaussian)
    q *= np.sign(np.diag(r))
    return on_grid(q)


def on_grid(matrix: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return a matrix rounded to multiples of 2**-16."""
    return np.asarray(np.rint(matrix * _GRID) / _GRID, np.float32)


def projecting(features: int, dimension: int) -> Reduction:
    """Return a fixed random projection, the same for every model of these dimensions.

    Raises:
        UsageError: ``dimension`` is not below the number of features.
    """
    check_dimensions(features, dimension)
    return Reduction(projection(features, dimension, features * 1000 + dimension))


def principal_components(features: npt.NDArray[np.float32], dimension: int) -> Reduction:
    """Return the projection to the directions in which features vary most.

    Args:
        features: float32 (n, d), of ``dimension`` + 1 or more different images.
        dimension: number of directions.

    Returns:
        A matrix with orthonormal columns, by falling variance, and the offset that moves the mean
        of ``features`` to 0.  The largest element of a column is positive.

    Raises:
        UsageError: ``dimension`` is not below d, or there are too few images.
        ModelError: the features do not vary in so many directions.
    """
    count, native = features.shape
    check_dimensions(native, dimension)
    if count <= dimension:
        raise UsageError(
            f"{dimension} principal components need more than {dimension} images (`samples`), and "
            f"better ten times as many; there are {count}"
        )
    wide = features.astype(np.float64)
    mean = wide.mean(axis=0)
    _, spread, rows = np.linalg.svd(wide - mean, full_matrices=False)
    if not spread[dimension - 1] > spread[0] * _RELATIVE_NOISE:
        varied = int((spread > spread[0] * _RELATIVE_NOISE).sum())
        raise ModelError(
            f"the features of the images (`samples`) vary in {varied} directions only; give more "
            f"and other images, or a lower `dimension` than {dimension}"
        )
    matrix = rows[:dimension].T
    largest = np.abs(matrix).argmax(axis=0)
    matrix = matrix * np.sign(matrix[largest, np.arange(dimension)])
    return Reduction(matrix.astype(np.float32), (-mean @ matrix).astype(np.float32))


def check_dimensions(features: int, dimension: int) -> None:
    """Raise UsageError unless features can be reduced to ``dimension`` numbers."""
    if not 1 <= dimension < features:
        raise UsageError(
            f"`dimension` is {dimension}; the network has {features} features, of which a "
            f"reduction leaves 1 to {features - 1}"
        )
    if features * dimension > _MAX_ELEMENTS:
        raise UsageError(
            f"`dimension` is {dimension}: a matrix for {features} features would be too large; up "
            f"to {_MAX_ELEMENTS // features} can be had"
        )
