"""Principal components: the linear map that keeps most of what features differ in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]

_BLOCK = 8192


def principal_components(features: Matrix, dimension: int) -> tuple[Matrix, Matrix]:
    """Return the directions in which features vary most.

    Args:
        features: float32 (n, native dimension), n greater than ``dimension``.
        dimension: of the product, at most the native one.

    Returns:
        The matrix, float32 (native dimension, dimension), of orthogonal unit columns; and the
        offset to be added to the product, float32 (dimension,), which moves the mean to 0.
    """
    mean = features.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((features.shape[1], features.shape[1]))
    for first in range(0, len(features), _BLOCK):
        apart = features[first : first + _BLOCK] - mean
        scatter += apart.T @ apart
    _, directions = np.linalg.eigh(scatter)
    matrix = directions[:, ::-1][:, :dimension]
    return matrix.astype(np.float32), (-mean @ matrix).astype(np.float32)
