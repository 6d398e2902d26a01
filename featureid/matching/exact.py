"""Exact search: the best rows for each query by :mod:`featureid.matching.scores`, proven.

Rows come block by block, so that a gallery may be larger than memory. From each block some more
candidates than wanted are fetched by their float32 products (:func:`candidates.nearest`) and given
their scores. The best k are proven if the k-th score is higher than any score that a row outside
the candidates can have: its product is not higher than that of the last candidate fetched, and its
score not further from the product than :func:`scores.rounding_error`. Of queries for which this
proves nothing, because very many rows are about equally near, every row that can count is scored in
a second pass.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.candidates import (
    QUERIES_AT_ONCE,
    merge_best,
    nearest,
    rows_at_once,
)
from featureid.matching.scores import floors_of, products_of, rounding_error, scores_of

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
#: The rows of a gallery in consecutive blocks, float32 (m, d), contiguous; read anew by each call.
Blocks = Callable[[], Iterable[Matrix]]
#: Row numbers -> what rows of equal score are ordered by.
SortKeys = Callable[[list[int]], Sequence[Any]]

# Candidates beyond k: enough to prove nearly all answers, and to hold a few rows of equal score.
_MORE = 6
# Hits beyond the k best that are held before they are cut to the best.
_MAX_HELD = 1 << 22
_ARRAYS = "rows", "scores"


@dataclass(frozen=True)
class Found:
    """The matches of one query, in order.

    Attributes:
        rows: row numbers (h,).
        scores: float32 (h,).
        total: how many rows match; more than ``h`` if ``k`` has cut some off.
    """

    rows: Rows
    scores: Matrix
    total: int


def search_top(queries: Matrix, blocks: Blocks, k: int, sort_keys: SortKeys) -> list[Found]:
    """Return the ``k`` best rows for each query.

    Args:
        queries: float32 (n, d) of unit length.
        blocks: the rows.
        k: how many, 1 or more.
        sort_keys: the order of rows of equal score; called for those rows alone.
    """
    best = _Best(queries, k)
    for block in blocks():
        best.add(block)
    found = [best.found(query, sort_keys) for query in range(len(queries))]
    unproven = [query for query, matches in enumerate(found) if matches is None]
    if unproven:
        floors = best.floors()[unproven]
        scanned = search_above(queries[unproven], blocks, floors, k, sort_keys)
        for query, matches in zip(unproven, scanned, strict=True):
            # What counts is the order alone: all rows match.
            found[query] = Found(matches.rows, matches.scores, best.num_rows)
    return [matches for matches in found if matches is not None]


def search_above(
    queries: Matrix,
    blocks: Blocks,
    thresholds: Matrix,
    k: int | None,
    sort_keys: SortKeys,
) -> list[Found]:
    """Return for each query all rows that score at least its threshold, or the best ``k`` of them.

    Args:
        queries: float32 (n, d) of unit length.
        blocks: the rows.
        thresholds: float32 (n,).
        k: how many to return at most; None for all.
        sort_keys: the order of rows of equal score; called for those rows alone.
    """
    hits = Hits(len(queries), k, sort_keys)
    floors = floors_of(thresholds, queries.shape[1])
    first = 0
    for block in blocks():
        for owners, rows in close_pairs(queries, block, floors):
            scores = scores_of(block, rows, queries, owners)
            enough = scores >= thresholds[owners]
            hits.add(owners[enough], rows[enough] + first, scores[enough])
        first += len(block)
    return hits.found()


def search_among(
    queries: Matrix,
    candidates: Iterable[tuple[Rows, Rows]],
    vectors_of: Callable[[Rows], Matrix],
    thresholds: Matrix,
    k: int | None,
    sort_keys: SortKeys,
) -> list[Found]:
    """Return what :func:`search_above` does, of rows that have been found in some other way.

    Args:
        queries: float32 (n, d) of unit length.
        candidates: numbers of queries and rows, (p,); no pair twice.
        vectors_of: row numbers (m,), ascending -> their vectors, float32 (m, d).
        thresholds: float32 (n,).
        k: how many to return at most; None for all.
        sort_keys: the order of rows of equal score; called for those rows alone.
    """
    hits = Hits(len(queries), k, sort_keys)
    floors = floors_of(thresholds, queries.shape[1])
    for owners, rows in candidates:
        different, places = np.unique(rows, return_inverse=True)
        vectors = vectors_of(different)
        close = products_of(vectors, places, queries, owners) >= floors[owners]
        owners, rows, places = owners[close], rows[close], places[close]
        scores = scores_of(vectors, places, queries, owners)
        enough = scores >= thresholds[owners]
        hits.add(owners[enough], rows[enough], scores[enough])
    return hits.found()


def rows_of(blocks: Blocks, numbers: Rows, dimension: int) -> Matrix:
    """Return some rows, whose numbers ascend, float32 (rows, dimension)."""
    found, first = [np.empty((0, dimension), np.float32)], 0
    for block in blocks():
        start, end = np.searchsorted(numbers, (first, first + len(block)))
        found.append(block[numbers[start:end] - first])
        first += len(block)
    return np.concatenate(found)


def close_pairs(queries: Matrix, block: Matrix, floors: Matrix) -> Iterator[tuple[Rows, Rows]]:
    """Yield numbers of queries and rows, (p,), whose product is not below the query's floor."""
    step = rows_at_once(min(QUERIES_AT_ONCE, len(queries)))
    for start in range(0, len(block), step):
        rows = block[start : start + step]
        for query in range(0, len(queries), QUERIES_AT_ONCE):
            part = slice(query, query + QUERIES_AT_ONCE)
            products = queries[part] @ rows.T
            close = np.flatnonzero(products.max(axis=1) >= floors[part])
            if 2 * len(close) < len(products):
                products = products[close]
            else:
                close = np.arange(len(products))
            pairs = np.flatnonzero(products >= floors[part][close, np.newaxis])
            owners, which = divmod(pairs, len(rows))
            yield close[owners] + query, which + start


class Hits:
    """Hits in any order, of which :meth:`found` makes the matches of each query.

    Args:
        queries: number of queries.
        k: how many matches a query has at most; None for all.
        sort_keys: the order of rows of equal score; called for those rows alone.
    """

    def __init__(self, queries: int, k: int | None, sort_keys: SortKeys) -> None:
        self._k = k
        self._sort_keys = sort_keys
        self._totals = np.zeros(queries, np.intp)
        self._parts: list[tuple[Rows, Rows, Matrix]] = []
        self._held = 0

    def add(self, owners: Rows, rows: Rows, scores: Matrix) -> None:
        """Take hits: the number of the query, the row and the score of each, (h,)."""
        self._totals += np.bincount(owners, minlength=len(self._totals))
        self._parts.append((owners, rows, scores))
        self._held += len(owners)
        if self._k is not None and self._held > _MAX_HELD + len(self._totals) * self._k:
            best = self.found()
            owners = np.repeat(np.arange(len(best)), [len(found.rows) for found in best])
            rows, scores = (np.concatenate([getattr(f, name) for f in best]) for name in _ARRAYS)
            self._parts, self._held = [(owners, rows, scores)], len(owners)

    def found(self) -> list[Found]:
        """Return the matches of each query."""
        if not len(self._totals):
            return []
        none = np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
        owners, rows, scores = map(np.concatenate, zip(none, *self._parts, strict=True))
        order = np.lexsort((rows, -scores, owners))
        ends = np.searchsorted(owners[order], np.arange(len(self._totals) + 1))
        return [
            Found(*_in_order(rows[mine], scores[mine], self._k, self._sort_keys), total=total)
            for mine, total in zip(np.split(order, ends[1:-1]), self._totals.tolist(), strict=True)
        ]


def _in_order(
    rows: Rows, scores: Matrix, k: int | None, sort_keys: SortKeys
) -> tuple[Rows, Matrix]:
    """Return the first ``k`` of rows sorted by score, with ties in the order of their keys."""
    end = len(rows)
    # Nearly always there is no tie, also none of the k-th with the next; this is what costs least.
    heads = scores if k is None else scores[: k + 1]
    if (heads[1:] != heads[:-1]).all():
        return rows[:k], scores[:k]
    if k is not None and k < end:
        # Rows that score as the k-th compete for the last places.
        end = int(np.searchsorted(-scores, -scores[k - 1], side="right"))
    rows, scores = rows[:end].copy(), scores[:end]
    changes = np.flatnonzero(np.diff(scores)) + 1
    for start, stop in itertools.pairwise([0, *changes.tolist(), end]):
        if stop - start > 1:
            tied = rows[start:stop].tolist()
            keyed = sorted(zip(sort_keys(tied), tied, strict=True))
            rows[start:stop] = [row for _, row in keyed]
    return rows[:k], scores[:k]


class _Best:
    """The best candidates of each query so far, and what is known of all other rows."""

    def __init__(self, queries: Matrix, k: int) -> None:
        self._queries = queries
        self._k = k
        self._margin = rounding_error(queries.shape[1])
        self._scores = np.full((len(queries), k + _MORE), -np.inf, np.float32)
        self._rows = np.zeros((len(queries), k + _MORE), np.intp)
        # No row outside the candidates scores higher.
        self._others = np.full(len(queries), -np.inf, np.float32)
        self.num_rows = 0

    def add(self, block: Matrix) -> None:
        width = min(self._scores.shape[1], len(block))
        if not width:
            return
        # Of a later block, few can be better than what was found before.
        floors = self._scores[:, -1] - np.float32(2 * self._margin)
        products, rows = nearest(self._queries, block, width, floors)
        if width < len(block):
            most = np.nextafter((products[:, -1] + self._margin).astype(np.float32), np.float32(2))
            np.maximum(self._others, most, out=self._others)
        owners, places = np.nonzero(rows >= 0)
        which = rows[owners, places]
        scores = scores_of(self._queries, owners, block, which)
        merge_best(self._scores, self._rows, owners, scores, which + self.num_rows)
        self.num_rows += len(block)

    def floors(self) -> Matrix:
        """Return for each query a score that its k-th best row reaches, float32 (n,)."""
        return self._scores[:, min(self._k, self.num_rows) - 1]

    def found(self, query: int, sort_keys: SortKeys) -> Found | None:
        """Return the matches of a query; None if they cannot be proven."""
        count = min(self._scores.shape[1], self.num_rows)
        k = min(self._k, count)
        scores = self._scores[query, :count]
        # What was merged and dropped again scores no more than the last candidate.
        if count < self.num_rows and max(self._others[query], scores[-1]) >= scores[k - 1]:
            return None
        matches = _in_order(self._rows[query, :count], scores, k, sort_keys)
        return Found(*matches, total=self.num_rows)
