"""Hashes of vectors: they find identical rows, and draw a sample that no order of rows changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

_SEED = 20261129


def identical_rows(vectors: Matrix) -> Rows:
    """Return for each row the number of the first row with the same bytes, (n,).

    Args:
        vectors: float32 (n, d).
    """
    hashes = row_hashes(vectors)
    order = np.argsort(hashes, kind="stable")
    firsts = np.arange(len(vectors))
    # Rows with the same hash are neighbors now; those of a run are compared with its first.
    ends = np.flatnonzero(np.diff(hashes[order])) + 1
    starts, ends = np.append(0, ends), np.append(ends, len(order))
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        run = order[start:end]
        while len(run) > 1:
            same = (vectors[run] == vectors[run[0]]).all(axis=1)
            same[0] = True
            firsts[run[same]] = run[0]
            run = run[~same]
    return firsts


def row_hashes(vectors: Matrix, number: int = 0) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of the bytes of each row, (n,), by one of many hash functions."""
    random = np.random.default_rng(_SEED + number).bytes(8 * vectors.shape[1])
    factors = np.frombuffer(random, "<u8") | np.uint64(1)
    hashes = np.zeros(len(vectors), np.uint64)
    words = vectors.view(np.uint32)
    for column in range(vectors.shape[1]):
        hashes += words[:, column] * factors[column]
    return hashes


def sampled_rows(vectors: Matrix, share: float, number: int) -> Rows:
    """Return a random sample of rows, (s,), that only depends on the bytes of each.

    So parts of a collection can be sampled apart from each other, and of identical rows all are
    drawn or none.

    Args:
        vectors: float32 (n, d).
        share: the probability of each row.
        number: which of many samples.
    """
    limit = np.uint64(int(share * 2**64) if share < 1 else 2**64 - 1)
    return np.flatnonzero(row_hashes(vectors, number) <= limit)
