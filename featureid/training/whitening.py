"""Learned whitening: a linear map from labeled features, in closed form.

From Mikolajczyk and Matas, "Improving Descriptors for Fast Tree Matching by Optimal Linear
Projection", 2007, as used by Radenović, Tolias and Chum, "Fine-tuning CNN Image Retrieval with No
Human Annotation", 2018: first what varies within a class is scaled to unit variance, then the
directions are kept in which classes differ most.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from featureid.errors import UsageError

Matrix = npt.NDArray[np.float32]


def learned_whitening(
    features: Matrix, labels: npt.NDArray[np.intp], dimension: int
) -> tuple[Matrix, Matrix]:
    """Return the linear map of features that tells classes apart best.

    Args:
        features: float32 (n, native dimension).
        labels: (n,), their classes; at least two, of at least two images each.
        dimension: of the product, at most the native one.

    Returns:
        The matrix, float32 (native dimension, dimension), and the offset to be added to the
        product, float32 (dimension,), which moves the mean of the features to 0.

    Raises:
        UsageError: ``dimension`` is too large.
    """
    if dimension > features.shape[1]:
        raise UsageError(
            f"`dimension` is {dimension}; the network gives only {features.shape[1]} features"
        )
    rows = features.astype(np.float64)
    _, own, counts = np.unique(labels, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), rows.shape[1]))
    np.add.at(means, own, rows)
    means /= counts[:, np.newaxis]
    apart = rows - means[own]
    within = apart.T @ apart / (len(rows) - len(counts))
    # The fewer images for each feature, the less of this is known: it is drawn to the mean.
    floor = rows.shape[1] / (len(rows) - len(counts))
    within[np.diag_indices_from(within)] += floor * np.trace(within) / len(within)
    variances, directions = np.linalg.eigh(within)
    whiten = directions / np.sqrt(variances)
    mean = rows.mean(axis=0)
    centered = (rows - mean) @ whiten
    _, between = np.linalg.eigh(centered.T @ centered)
    matrix = whiten @ between[:, ::-1][:, :dimension]
    return matrix.astype(np.float32), (-mean @ matrix).astype(np.float32)
