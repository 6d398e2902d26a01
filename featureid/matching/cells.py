"""Which rows belong together, nearly all of them, without comparing all pairs.

**Cells**: each row belongs to the cells of the two pivots, rows drawn at random, that are nearest
to it, in each of several sets of cells; only rows that share a cell are compared. Two rows that are
near each other nearly always share one. Whatever such pairs connect is one **part** of the
collection, within which all pairs are compared then. So two near rows are missed only if no chain
of others connects them, either; :func:`recall_of` measures how often.

Everything here depends on the bytes of the rows alone: not on their order, nor on what computes
products. So cells can be compared on different machines with the same result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.candidates import QUERIES_AT_ONCE
from featureid.matching.forest import Forest
from featureid.matching.identical import row_hashes, sampled_rows
from featureid.matching.lists import Lists
from featureid.matching.near import Nearness, Pairs, near_pairs
from featureid.matching.scores import rounding_error, scores_of
from featureid.parallel import map_in_order

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

#: How many sets of cells: more of them miss fewer pairs.
SETS = 3
#: Parts with more rows are cut, lest chains of millions of rows are compared by one worker.
MAX_PART = 1 << 17
#: How many cells of a set a row belongs to.
NEAREST_PIVOTS = 2
# Rows per pivot: with fewer, there are more cells, which cost recall; with more, larger cells.
_ROWS_PER_PIVOT = 1000
_SAMPLE = 2000
# The numbers of samples: the first is of rows whose pairs are counted, the others of pivots.
_OF_RECALL, _OF_PIVOTS = 1, 2


@dataclass(frozen=True)
class Recall:
    """How many pairs of near rows were found.

    Attributes:
        found: pairs whose rows are in one part, so that they have been compared.
        pairs: all pairs of some rows.
    """

    found: int
    pairs: int


def share_of_pivots(rows: int) -> float:
    """Return which share of the rows are pivots.

    Comparing rows with pivots costs as much as comparing them in cells if there are about as many
    pivots as the square root of twice the number of rows; up to 2 million rows there are fewer.

    Args:
        rows: of the collection, those that are identical included.
    """
    return min(1 / _ROWS_PER_PIVOT, math.sqrt(2 / max(1, rows)))


def draw_pivots(vectors: Matrix, rows: int) -> tuple[Matrix, ...]:
    """Return the pivots of each set of cells among some rows, in an order of their own.

    Args:
        vectors: float32 (n, d); no two of them equal.
        rows: of the whole collection, those that are identical included.

    Returns:
        For each set float32 (p, d); perhaps none.
    """
    hashes, share = row_hashes(vectors), share_of_pivots(rows)
    drawn = (sampled_rows(hashes, share, _OF_PIVOTS + number) for number in range(SETS))
    return tuple(ordered(vectors[some]) for some in drawn)


def draw_sample(vectors: Matrix, rows: int) -> Rows:
    """Return those of some rows whose pairs are counted: about 2,000 of the whole collection.

    Args:
        vectors: float32 (n, d).
        rows: of the whole collection.
    """
    return sampled_rows(row_hashes(vectors), _SAMPLE / max(1, rows), _OF_RECALL)


def ordered(vectors: Matrix) -> Matrix:
    """Return different rows in an order that depends on their bytes alone."""
    return vectors[np.argsort(row_hashes(vectors), kind="stable")]


def nearest_pivots(vectors: Matrix, pivots: Matrix) -> Rows:
    """Return for each row the numbers of its cells: of the nearest pivots, by score, then number.

    Args:
        vectors: float32 (n, d).
        pivots: float32 (p, d); with none, there is a single cell for all.

    Returns:
        (n, 2), or (n, 1) for fewer than two pivots.
    """
    count = min(NEAREST_PIVOTS, len(pivots))
    cells = np.zeros((len(vectors), max(1, count)), np.intp)
    if len(pivots) < NEAREST_PIVOTS:
        return cells
    margin = 2 * rounding_error(vectors.shape[1])
    for start in range(0, len(vectors), QUERIES_AT_ONCE):
        queries = vectors[start : start + QUERIES_AT_ONCE]
        products = queries @ pivots.T
        best, values = _highest(products, min(count + 1, len(pivots)))
        cells[start : start + len(queries)] = best[:, :count]
        unsure = np.flatnonzero((np.diff(values, axis=1) >= -margin).any(axis=1))
        for row in unsure.tolist():
            near = np.flatnonzero(products[row] >= values[row, count - 1] - margin)
            scores = scores_of(pivots, near, queries, np.full(len(near), row))
            cells[start + row] = near[np.lexsort((near, -scores))[:count]]
    return cells


def _highest(products: Matrix, count: int) -> tuple[Rows, Matrix]:
    """Return the places of the highest numbers of each row, (n, count), and the numbers."""
    rows = np.arange(len(products))
    places = np.empty((len(products), count), np.intp)
    values = np.empty((len(products), count), np.float32)
    for number in range(count):
        places[:, number] = products.argmax(axis=1)
        values[:, number] = products[rows, places[:, number]]
        products[rows, places[:, number]] = -np.inf
    for number in range(count):
        products[rows, places[:, number]] = values[:, number]
    return places, values


def parts_by_cells(
    near: Nearness,
    weights: Rows,
    threads: int = 0,
    progress: Callable[[int], None] = lambda rows: None,
) -> Rows:
    """Return for each row the number of its part, (n,).

    Args:
        near: which rows are near each other; no two are identical.
        weights: how many rows of the collection each of them stands for, (n,).
        threads: to use; 0 means one per CPU core.
        progress: called with the number of rows that have been compared.
    """
    pivots = draw_pivots(near.vectors, int(weights.sum()))
    forest = Forest(len(near))
    linked = near.linked()
    forest.join(linked.one, linked.other)
    compared, times = 0, SETS * NEAREST_PIVOTS
    for one_set in pivots:
        cells = _cells(near.vectors, one_set, threads)

        def edges_of(members: Rows) -> Pairs:
            found = [*near.take(members).edges()]
            return Pairs(
                members[np.concatenate([pairs.one for pairs in found])],
                members[np.concatenate([pairs.other for pairs in found])],
            )

        for members, edges in map_in_order(edges_of, cells, threads):
            forest.join(edges.one, edges.other)
            progress((compared + len(members)) // times - compared // times)
            compared += len(members)
    parts = forest.labels()
    large = np.flatnonzero(in_large_parts(parts, weights))
    if len(large):
        cells_of_large = nearest_pivots(near.vectors[large], pivots[0])[:, 0]
        parts[large] = cut_parts(parts[large], cells_of_large) + len(parts)
    return parts


def in_large_parts(parts: Rows, weights: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows are of a part that has to be cut, (n,).

    Args:
        parts: the part of each row, (n,).
        weights: how many rows each of them stands for, (n,).
    """
    _, places = np.unique(parts, return_inverse=True)
    sizes = np.bincount(places, weights)
    return np.asarray(sizes[places] > MAX_PART)


def cut_parts(parts: Rows, cells: Rows) -> Rows:
    """Return new numbers for the rows of each part and cell, (n,)."""
    both = np.stack([parts, cells])
    return np.unique(both, axis=1, return_inverse=True)[1].ravel()


def _cells(vectors: Matrix, pivots: Matrix, threads: int) -> Iterator[Rows]:
    """Yield the rows of each cell with two rows or more."""
    step = QUERIES_AT_ONCE * 16

    def nearest(start: int) -> Rows:
        return nearest_pivots(vectors[start : start + step], pivots)

    starts = range(0, len(vectors), step)
    found = [cells for _, cells in map_in_order(nearest, starts, threads)]
    cells = np.concatenate(found) if found else np.empty((0, 1), np.intp)
    width = cells.shape[1]
    for places in Lists.by_number(cells.ravel(), max(1, len(pivots))):
        if len(places) > 1:
            yield places // width


def recall_of(near: Nearness, parts: Rows, rows: int) -> Recall:
    """Return how many pairs of near rows of a sample were found; the sample is always the same.

    Args:
        near: which rows are near each other.
        parts: the part of each row, (n,).
        rows: of the collection, those that are identical included.
    """
    drawn = draw_sample(near.vectors, rows)
    is_drawn = np.zeros(len(near), np.bool_)
    is_drawn[drawn] = True
    found = there = 0
    for start in range(0, len(drawn), QUERIES_AT_ONCE):
        sample = drawn[start : start + QUERIES_AT_ONCE]
        for here, other in near_pairs(near.queries[sample], near.vectors, near.threshold):
            one = sample[here]
            # Pairs of two rows of the sample are found twice.
            once = (one < other) | (one > other) & ~is_drawn[other]
            pairs = near.counted(Pairs(one[once], other[once]))
            there += len(pairs)
            found += int((parts[pairs.one] == parts[pairs.other]).sum())
    return Recall(found, there)
