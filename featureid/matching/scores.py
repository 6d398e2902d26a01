"""The score of two feature IDs, defined so that every way to compute it gives the same bits.

A **score** is the float64 dot product of two vectors rounded to float32. The products of float32
numbers are exact in float64; they are added up as a balanced tree, a fixed order that consists of
additions of whole arrays. So a score does not depend on the processor, on the library that found
the pair, or on what else was computed along with it, and ``score(a, b) == score(b, a)``.

Matches are ordered by score, highest first; those of equal score by key, then by row.

A **corrected score** is less half of a number of each of the two vectors, their corrections h and
h' (:mod:`featureid.matching.cohort`). It is the score of two longer vectors, (a, 1, -h / 2) of one
side (:func:`query_vectors`) and (b, -h' / 2, 1) of the other (:func:`row_vectors`), so that all
that finds scores finds corrected ones as well. Their two terms are added to each other first, which
leaves corrected scores symmetric, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import MixedModelsError, UsageError
from featureid.storage.records import ModelInfo, first_difference

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

#: How far the length of a query may be from 1; as far as that of a stored float16 vector.
UNIT_TOLERANCE = 0.0015
# Half a megabyte of products of 128 dimensions, which stays in the cache of a core.
_PAIRS_AT_ONCE = 1 << 9
_FLOAT32_ROUNDING = 2.0**-24


def pair_scores(one: Matrix, other: Matrix) -> Matrix:
    """Return the score of each row of one matrix with the same row of the other.

    Args:
        one: float32 (n, d), or (d,) to pair one vector with every row of ``other``.
        other: float32 (n, d).

    Returns:
        float32 (n,).
    """
    products = one.astype(np.float64) * other
    width = products.shape[1]
    while width > 1:
        half = (width + 1) // 2
        # The middle column of an odd number of columns waits for the next round.
        products[:, : width - half] += products[:, half:width]
        width = half
    return products[:, 0].astype(np.float32)


def scores_of(one: Matrix, here: Rows, other: Matrix, there: Rows) -> Matrix:
    """Return the scores of pairs of rows: row ``here[i]`` of one with ``there[i]`` of the other.

    Args:
        one: float32 (n, d).
        here: row numbers (p,) in ``one``.
        other: float32 (m, d).
        there: row numbers (p,) in ``other``.

    Returns:
        float32 (p,).
    """
    scores = np.empty(len(here), np.float32)
    for start in range(0, len(here), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        scores[part] = pair_scores(one[here[part]], other[there[part]])
    return scores


def products_of(one: Matrix, here: Rows, other: Matrix, there: Rows) -> Matrix:
    """Return float32 products of pairs of rows, about their scores: see :func:`floors_of`.

    Arguments and result are those of :func:`scores_of`, which takes several times as long.
    """
    products = np.empty(len(here), np.float32)
    for start in range(0, len(here), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        np.einsum("ij,ij->i", one[here[part]], other[there[part]], out=products[part])
    return products


def row_vectors(vectors: Matrix, corrections: Matrix | None) -> Matrix:
    """Return vectors with their corrections, to be searched.

    Args:
        vectors: float32 (n, d), or (d,).
        corrections: float32 (n,), or a number; None for none.

    Returns:
        float32 (n, d + 2), or (d + 2,); without corrections, ``vectors`` themselves.
    """
    return vectors if corrections is None else _longer(vectors, -corrections / 2, 1)


def query_vectors(vectors: Matrix, corrections: Matrix | None) -> Matrix:
    """Return vectors with their corrections, to search for; otherwise as :func:`row_vectors`."""
    return vectors if corrections is None else _longer(vectors, 1, -corrections / 2)


def _longer(vectors: Matrix, middle: npt.ArrayLike, last: npt.ArrayLike) -> Matrix:
    """Return vectors with two more numbers, whose terms :func:`pair_scores` adds up first."""
    half = vectors.shape[-1] // 2
    longer = np.empty((*vectors.shape[:-1], vectors.shape[-1] + 2), np.float32)
    longer[..., :half], longer[..., half + 1 : -1] = vectors[..., :half], vectors[..., half:]
    longer[..., half], longer[..., -1] = middle, last
    return longer


def rounding_error(dimension: int) -> float:
    """Return a bound of how far a float32 dot product of unit vectors is from the exact one.

    It holds for any order of summation, with or without fused multiply-add (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd edition, section 3.1), and for vectors with corrections,
    whose products add up to 2 at most; 1.6e-5 for 128 dimensions.
    """
    growth = dimension * _FLOAT32_ROUNDING
    return growth / (1 - growth) * 2 * (1 + UNIT_TOLERANCE) ** 2


def floors_of(thresholds: Matrix, dimension: int) -> Matrix:
    """Return the float32 product, (n,), that a pair of unit vectors with a score at least has."""
    # Rounded down, lest a product at the edge be lost.
    floors = np.nextafter(thresholds - np.float32(rounding_error(dimension)), np.float32(-2))
    return np.asarray(floors, np.float32)


def check_queries(vectors: npt.NDArray[Any], dimension: int) -> Matrix:
    """Return query vectors as float32 (n, dimension), contiguous.

    Args:
        vectors: floats (n, dimension), or (dimension,) for one query, of unit length.
        dimension: length of the vectors that they are compared with.

    Raises:
        UsageError: they have another shape or type, or one is not finite or not of unit length.
    """
    queries = np.atleast_2d(np.asarray(vectors))
    if queries.ndim != 2 or queries.shape[1] != dimension or queries.dtype.kind != "f":
        raise UsageError(
            f"queries must be floats of shape (n, {dimension}), got {queries.dtype} of shape "
            f"{np.shape(vectors)}"
        )
    queries = np.ascontiguousarray(queries, np.float32)
    lengths = np.sqrt(np.einsum("ij,ij->i", queries, queries, dtype=np.float64))
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))
    if len(bad):
        raise UsageError(
            f"query {bad[0]} has length {lengths[bad[0]]:.6g}, not 1; divide each vector by its "
            "Euclidean length"
        )
    return queries


def check_comparable(one: ModelInfo, its_name: str, other: ModelInfo, others_name: str) -> None:
    """Refuse to compare vectors of different models or preprocessing.

    Raises:
        MixedModelsError: they differ; the message names both.
    """
    difference = first_difference(one, other)
    if difference is not None:
        what, here, there = difference
        raise MixedModelsError(
            f"{its_name} and {others_name} cannot be compared: their {what} differs, {one.name} "
            f"{here} and {other.name} {there}; embed one of them again with the model of the other"
        )
