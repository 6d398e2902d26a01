"""Candidates for the nearest rows of a block, by float32 matrix products.

The last bits of such products depend on the library and on the batch. They only find candidates;
:mod:`featureid.matching.exact` computes scores and proves that none is missing.

NumPy's matrix product is as fast as FAISS's exhaustive search or faster (``benchmarks/search.py``
compares them), but for a single query, for which FAISS is used where it is installed.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# 4 MB of products: they stay in the cache of a core.
QUERIES_AT_ONCE = 512
ROWS_AT_ONCE = 2048
# Of fewer, it does not matter, and importing FAISS takes a while.
_ROWS_FOR_FAISS = 1 << 17


@cache
def _faiss() -> Any | None:
    """Return the module faiss, or None if it is not installed."""
    return importlib.import_module("faiss") if importlib.util.find_spec("faiss") else None


def rows_at_once(queries: int) -> int:
    """Return how many rows to multiply with some queries: more for few, for which calls count."""
    return ROWS_AT_ONCE * max(1, QUERIES_AT_ONCE // max(1, queries))


def nearest(
    queries: Matrix, block: Matrix, k: int, floors: Matrix | None = None
) -> tuple[Matrix, Rows]:
    """Return about the nearest rows of a block for each query.

    The products of some rows at a time are compared with the k-th best so far, which very few
    exceed after the first rows.

    Args:
        queries: float32 (n, d), contiguous.
        block: float32 (m, d), contiguous.
        k: how many, from 1 to m.
        floors: float32 (n,), approximate scores that are of no interest, nor lower ones; minus
            infinity if all are.

    Returns:
        Approximate scores, float32 (n, k), highest first, and row numbers (n, k). A row that is not
        among them has an approximate score that is not higher than the last of its query. Where
        fewer rows are above the floor, it may fill their places, with the row number -1.
    """
    if len(queries) == 1 and len(block) >= _ROWS_FOR_FAISS and (faiss := _faiss()):
        # On one thread, since more of them wait for each other.
        found = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
        return found[0], found[1].astype(np.intp)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    if floors is not None:
        scores[:] = floors[:, np.newaxis]
    rows = np.full((len(queries), k), -1)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        _nearest(queries[part], block, scores[part], rows[part])
    return scores, rows


def _nearest(queries: Matrix, block: Matrix, scores: Matrix, rows: Rows) -> None:
    """Write the nearest rows of some queries to ``scores`` and ``rows``, both (n, k)."""
    k = scores.shape[1]
    step = rows_at_once(len(queries))
    for first in range(0, len(block), step):
        products = queries @ block[first : first + step].T
        touched = np.flatnonzero(products.max(axis=1) > scores[:, -1])
        if not len(touched):
            continue
        if len(touched) < len(queries):
            products = products[touched]
        floors = scores[touched, -1:]
        if np.isneginf(floors).any() and products.shape[1] > k:
            # Still full of gaps: only the k best of these rows count.
            best = np.argpartition(products, -k, axis=1)[:, -k:]
            owners, which = np.repeat(np.arange(len(touched)), k), best.ravel()
        else:
            owners, which = divmod(np.flatnonzero(products > floors), products.shape[1])
        merge_best(scores, rows, touched[owners], products[owners, which], which + first)


def merge_best(
    scores: Matrix, rows: Rows, queries: Rows, new_scores: Matrix, new_rows: Rows
) -> None:
    """Merge hits into the best of each query, in place.

    Args:
        scores: float32 (n, k), highest first.
        rows: their row numbers (n, k).
        queries: for each hit the number of its query, (h,).
        new_scores: float32 (h,).
        new_rows: row numbers (h,).
    """
    k = scores.shape[1]
    touched, places = np.unique(queries, return_inverse=True)
    owners = np.concatenate([np.repeat(np.arange(len(touched)), k), places])
    all_scores = np.concatenate([scores[touched].ravel(), new_scores])
    all_rows = np.concatenate([rows[touched].ravel(), new_rows])
    order = np.lexsort((-all_scores, owners))
    firsts = np.searchsorted(owners[order], np.arange(len(touched)))
    best = order[firsts[:, np.newaxis] + np.arange(k)]
    scores[touched] = all_scores[best]
    rows[touched] = all_rows[best]
