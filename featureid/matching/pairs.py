"""All pairs of rows that score at least a threshold: exactly, or by cells for many rows.

**Cells**: each row belongs to the cells of the two pivots, random rows, that are nearest to it, and
only rows that share a cell are compared. Two rows that are close to each other nearly always do;
:func:`recall_of` measures how often.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.candidates import QUERIES_AT_ONCE
from featureid.matching.exact import close_pairs, search_above
from featureid.matching.scores import floors_of, scores_of

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# Rows of one cell, about: fewer cells cost time, more cost recall.
_ROWS_PER_CELL = 1000
_NEAREST_PIVOTS = 2
_NO_CELL = np.iinfo(np.intp).max
_SEED = 20261129


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, each once, by the lower row and then the higher.

    Attributes:
        lower: row numbers (p,).
        higher: row numbers (p,), each larger than its ``lower``.
        scores: float32 (p,).
    """

    lower: Rows
    higher: Rows
    scores: Matrix

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.lower)

    def take(self, kept: npt.NDArray[np.bool_]) -> Pairs:
        """Return the pairs for which ``kept`` (p,) is true."""
        return Pairs(self.lower[kept], self.higher[kept], self.scores[kept])


def identical_rows(vectors: Matrix) -> Rows:
    """Return for each row the number of the first row with the same bytes, (n,).

    Args:
        vectors: float32 (n, d).
    """
    hashes = _hashes(vectors)
    order = np.argsort(hashes, kind="stable")
    firsts = np.arange(len(vectors))
    # Rows with the same hash are neighbors now; those of a run are compared with its first.
    runs = np.split(order, np.flatnonzero(np.diff(hashes[order])) + 1)
    for run in runs:
        while len(run) > 1:
            same = (vectors[run] == vectors[run[0]]).all(axis=1)
            same[0] = True
            firsts[run[same]] = run[0]
            run = run[~same]
    return firsts


def _hashes(vectors: Matrix) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of the bytes of each row, (n,)."""
    random = np.random.default_rng(_SEED).bytes(8 * vectors.shape[1])
    factors = np.frombuffer(random, np.uint64) | np.uint64(1)
    hashes = np.zeros(len(vectors), np.uint64)
    words = vectors.view(np.uint32)
    for column in range(vectors.shape[1]):
        hashes += words[:, column] * factors[column]
    return hashes


def all_pairs(
    vectors: Matrix, threshold: float, progress: Callable[[int], None] = lambda rows: None
) -> Pairs:
    """Return all pairs of rows that score at least a threshold.

    Args:
        vectors: float32 (n, d) of unit length.
        threshold: the lowest score.
        progress: called with the number of rows that have been compared with all later ones.
    """
    return joined_pairs(_upper_triangle(vectors, threshold, progress))


def pairs_between(one: Matrix, other: Matrix, threshold: float) -> tuple[Rows, Rows, Matrix]:
    """Return all pairs of a row of one matrix and one of another that score at least a threshold.

    Returns:
        Row numbers (p,) in each, and their scores (p,), by the first and then the second.
    """
    lowest = np.full(len(one), threshold, np.float32)
    found = search_above(one, lambda: [other], lowest, None, lambda rows: rows)
    counts = [len(matches.rows) for matches in found]
    here = np.repeat(np.arange(len(one)), counts)
    there = np.concatenate([np.empty(0, np.intp), *(matches.rows for matches in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(matches.scores for matches in found)])
    order = np.lexsort((there, here))
    return here, there[order], scores[order]


def pairs_in_cells(
    vectors: Matrix,
    threshold: float,
    sets: int = 2,
    progress: Callable[[int], None] = lambda rows: None,
) -> Pairs:
    """Return nearly all pairs of rows that score at least a threshold.

    Args:
        vectors: float32 (n, d) of unit length, no two of them equal.
        threshold: the lowest score.
        sets: how many sets of cells; more of them miss fewer pairs.
        progress: called with the number of rows whose cells have been searched.
    """
    random = np.random.default_rng(_SEED)

    def found() -> Iterator[tuple[Rows, Rows, Matrix]]:
        before: list[Rows] = []
        for _ in range(sets):
            count = max(_NEAREST_PIVOTS, len(vectors) // _ROWS_PER_CELL)
            pivots = np.sort(random.choice(len(vectors), min(count, len(vectors)), replace=False))
            cells = _nearest_pivots(vectors, vectors[pivots])
            for cell, rows in enumerate(_rows_by_cell(cells, len(pivots))):
                for here, there, scores in _upper_triangle(vectors[rows], threshold):
                    lower, higher = rows[here], rows[there]
                    # Rows may share several cells: the first of them yields the pair.
                    new = _first_shared(cells, lower, higher) == cell
                    for others in before:
                        new &= _first_shared(others, lower, higher) == _NO_CELL
                    yield lower[new], higher[new], scores[new]
                progress(len(rows))
            before.append(cells)

    return joined_pairs(found())


def recall_of(pairs: Pairs, vectors: Matrix, threshold: float, sample: int) -> tuple[int, int]:
    """Return how many pairs of some rows were found, and how many there are.

    Args:
        pairs: what was found.
        vectors: float32 (n, d), the rows.
        threshold: the lowest score.
        sample: rows to draw at random, always the same, and to compare with all others.
    """
    random = np.random.default_rng(_SEED + 1)
    drawn = np.sort(random.choice(len(vectors), min(sample, len(vectors)), replace=False))
    here, there, _ = pairs_between(vectors[drawn], vectors, threshold)
    others = drawn[here] != there
    lower = np.minimum(drawn[here], there)[others]
    higher = np.maximum(drawn[here], there)[others]
    there_are = np.unique(lower * len(vectors) + higher)
    known = pairs.lower * len(vectors) + pairs.higher  # ascending, as pairs are
    places = np.searchsorted(known, there_are)
    found = there_are[places < len(known)] == known[places[places < len(known)]]
    return int(found.sum()), len(there_are)


def _upper_triangle(
    vectors: Matrix, threshold: float, progress: Callable[[int], None] = lambda rows: None
) -> Iterator[tuple[Rows, Rows, Matrix]]:
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        queries, block = vectors[start : start + QUERIES_AT_ONCE], vectors[start:]
        floors = floors_of(np.full(len(queries), threshold, np.float32), vectors.shape[1])
        for here, there in close_pairs(queries, block, floors):
            upper = there > here
            here, there = here[upper], there[upper]
            scores = scores_of(block, there, queries, here)
            enough = scores >= np.float32(threshold)
            yield here[enough] + start, there[enough] + start, scores[enough]
        progress(len(queries))


def _nearest_pivots(vectors: Matrix, pivots: Matrix) -> Rows:
    """Return for each row the numbers of the nearest pivots, its cells, (n, 2)."""
    nearest = min(_NEAREST_PIVOTS, len(pivots))
    cells = np.empty((len(vectors), nearest), np.intp)
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        products = vectors[start : start + QUERIES_AT_ONCE] @ pivots.T
        cells[start : start + QUERIES_AT_ONCE] = np.argpartition(-products, nearest - 1, axis=1)[
            :, :nearest
        ]
    return cells


def _rows_by_cell(cells: Rows, count: int) -> Iterator[Rows]:
    """Yield the rows of each cell, ascending."""
    order = np.argsort(cells, axis=None, kind="stable")
    ends = np.searchsorted(cells.ravel()[order], np.arange(count + 1))
    for start, end in itertools.pairwise(ends.tolist()):
        yield order[start:end] // cells.shape[1]


def _first_shared(cells: Rows, one: Rows, other: Rows) -> Rows:
    """Return the lowest number of a cell that two rows share, (p,), or ``_NO_CELL``."""
    here, there = cells[one][:, :, np.newaxis], cells[other][:, np.newaxis, :]
    first: Rows = np.where(here == there, here, _NO_CELL).min(axis=(1, 2))
    return first


def joined_pairs(parts: Iterable[tuple[Rows, Rows, Matrix]]) -> Pairs:
    """Return pairs that were found in parts, each once."""
    none = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
    lower, higher, scores = map(np.concatenate, zip(none, *parts, strict=True))
    both = lower * (higher.max(initial=0) + 1) + higher
    order = np.argsort(both)
    new = np.ones(len(both), bool)
    new[1:] = np.diff(both[order]) != 0
    order = order[new]
    return Pairs(lower[order], higher[order], scores[order])
