"""Hashes of vectors: they find identical rows, and draw a sample that no order of rows changes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Hashes = npt.NDArray[np.uint64]

_SEED = 20261129
# A megabyte of 128 dimensions, which stays in the cache of a core.
_ROWS_AT_ONCE = 1 << 11


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


def row_hashes(vectors: Matrix) -> Hashes:
    """Return a 64-bit hash of the bytes of each row, (n,)."""
    random = np.random.default_rng(_SEED).bytes(8 * vectors.shape[1])
    factors = np.frombuffer(random, "<u8") | np.uint64(1)
    hashes = np.zeros(len(vectors), np.uint64)
    words = vectors.view(np.uint32)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        for column in range(vectors.shape[1]):
            hashes[part] += words[part, column] * factors[column]
    return hashes


def sampled_rows(hashes: Hashes, share: float, number: int) -> Rows:
    """Return a random sample of rows, (s,), that only depends on the bytes of each.

    So parts of a collection can be sampled apart from each other, and of identical rows all are
    drawn or none.

    Args:
        hashes: of :func:`row_hashes`, (n,).
        share: the probability of each row.
        number: which of many samples, which have nothing to do with each other.
    """
    limit = np.uint64(int(share * 2**64) if share < 1 else 2**64 - 1)
    # The finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
    mixed = hashes + np.uint64(number * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.flatnonzero(mixed ^ (mixed >> np.uint64(31)) <= limit)
