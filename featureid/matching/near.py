"""Which rows of a collection are near each other: exactly, whatever computes the products.

Two rows are near if their score reaches a threshold. Nearly all pairs are decided by their float32
product; only those whose product is within its rounding error of the threshold are scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from featureid.matching.bounds import ROUNDING, bounding_vectors
from featureid.matching.candidates import QUERIES_AT_ONCE, ROWS_AT_ONCE, rows_at_once
from featureid.matching.forest import Forest
from featureid.matching.lists import Lists, numbered
from featureid.matching.scores import (
    products_of,
    query_vectors,
    rounding_error,
    row_vectors,
    scores_of,
)
from featureid.parallel import map_in_order

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]
Which = Rows | slice

# Pairs that are held; more of them are thinned out to those that connect the same rows.
_MAX_HELD = 1 << 18
# Of fewer than one in so many pairs, products are computed one by one.
_SPARSE = 50
_EVERY = slice(None)


def near_pairs(
    queries: Matrix,
    block: Matrix,
    threshold: float,
    bounds: tuple[Matrix, Matrix] | None = None,
) -> Iterator[tuple[Rows, Rows]]:
    """Yield numbers of queries and of rows, (p,), that score at least a threshold.

    Args:
        queries: float32 (n, d) of unit length; some hundred.
        block: float32 (m, d) of unit length.
        threshold: the lowest score.
        bounds: the bounding vectors of both.
    """
    floor, ceiling = limits_of(threshold, queries.shape[1])
    step = rows_at_once(len(queries))
    for start in range(0, len(block), step):
        rows = block[start : start + step]
        if bounds is None:
            owners, which, products = _hits(queries, rows, floor)
        else:
            short = bounds[0], bounds[1][start : start + step]
            owners, which, _ = _hits(*short, floor - ROUNDING)
            if len(owners) * _SPARSE < len(queries) * len(rows):
                products = products_of(queries, owners, rows, which)
                close = products >= floor
                owners, which, products = owners[close], which[close], products[close]
            else:
                owners, which, products = _hits(queries, rows, floor)
        unsure = np.flatnonzero(products < ceiling)
        if len(unsure):
            near = np.ones(len(owners), np.bool_)
            scores = scores_of(queries, owners[unsure], rows, which[unsure])
            near[unsure] = scores >= np.float32(threshold)
            owners, which = owners[near], which[near]
        if len(owners):
            yield owners, which + start


def _hits(queries: Matrix, rows: Matrix, floor: np.float32) -> tuple[Rows, Rows, Matrix]:
    """Return the numbers of queries and of rows, (p,), whose product is not below, and those."""
    products = queries @ rows.T
    close = np.flatnonzero(products.max(axis=1) >= floor)
    products = products[close]
    hits = np.flatnonzero(products >= floor)
    owners, which = divmod(hits, len(rows))
    return close[owners], which, products.ravel()[hits]


def limits_of(threshold: float, dimension: int) -> tuple[np.float32, np.float32]:
    """Return the float32 products below which no pair and from which on every pair is near."""
    lowest, margin = np.float32(threshold), np.float32(rounding_error(dimension))
    below = np.nextafter(lowest - margin, np.float32(-2))
    return below, np.nextafter(lowest + margin, np.float32(2))


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows.

    Attributes:
        one: row numbers (p,).
        other: row numbers (p,), different from those of ``one``.
    """

    one: Rows
    other: Rows

    @classmethod
    def none(cls) -> Pairs:
        """Return no pairs."""
        return cls(np.empty(0, np.intp), np.empty(0, np.intp))

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.one)

    def where(self, kept: Mask) -> Pairs:
        """Return the pairs for which ``kept``, (p,), is true."""
        return Pairs(self.one[kept], self.other[kept])

    def among(self, one: Which, other: Which, rows: int) -> tuple[Rows, Rows]:
        """Return the places of pairs in two selections of ``rows`` rows, in both directions."""
        here, there = _places(one, rows), _places(other, rows)
        first = np.concatenate([here[self.one], here[self.other]])
        second = np.concatenate([there[self.other], there[self.one]])
        inside = (first >= 0) & (second >= 0)
        return first[inside], second[inside]


def _places(which: Which, rows: int) -> Rows:
    """Return for each row its place in a selection, or -1, (rows,)."""
    places = np.full(rows, -1)
    chosen = np.arange(rows)[which]
    places[chosen] = np.arange(len(chosen))
    return places


@dataclass(frozen=True)
class Nearness:
    """Which of some rows are near each other.

    Attributes:
        vectors: float32 (n, d) of unit length, perhaps with corrections.
        queries: what they are on the other side of a score; themselves without corrections.
        bounds: their bounding vectors, (n, w).
        threshold: the lowest score of rows that are near.
        left: (n,), and
        right: (n,): of two rows that are near, one is of the left side and the other of the right
            side. A row may be of both.
        parts: (n,) numbers; only rows of the same part are near.
        added: pairs that are near whatever they score.
        removed: pairs that are not.
        alike: (n,) numbers; rows with the same one are near whatever they score. -1 stands for
            none. So pairs need not be listed of which there are very many.
    """

    vectors: Matrix
    queries: Matrix
    bounds: Matrix
    threshold: float
    left: Mask
    right: Mask
    parts: Rows
    added: Pairs
    removed: Pairs
    alike: Rows

    @classmethod
    def of(cls, vectors: Matrix, threshold: float, corrections: Matrix | None = None) -> Nearness:
        """Return that of rows, (n, d), of which nothing but their corrections, (n,), is known."""
        every = np.ones(len(vectors), np.bool_)
        part = np.zeros(len(vectors), np.intp)
        queries, rows = query_vectors(vectors, corrections), row_vectors(vectors, corrections)
        bounds = bounding_vectors(rows, threshold) if queries is rows else rows
        none = Pairs.none()
        return cls(rows, queries, bounds, threshold, every, every, part, none, none, part - 1)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.vectors)

    def take(self, rows: Rows) -> Nearness:
        """Return that of some rows, which are numbered from 0 in the order that they are given."""
        added, removed = self.added, self.removed
        if len(added) or len(removed):
            places = _places(rows, len(self))
            added, removed = (_renumbered(pairs, places) for pairs in (added, removed))
        vectors = self.vectors[rows]
        return Nearness(
            vectors,
            vectors if self.queries is self.vectors else self.queries[rows],
            self.bounds[rows] if self._has_bounds else vectors,
            self.threshold,
            self.left[rows],
            self.right[rows],
            self.parts[rows],
            added,
            removed,
            self.alike[rows],
        )

    def in_parts(self, parts: Rows) -> Nearness:
        """Return this with only rows of the same of these parts near each other."""
        return replace(self, parts=parts)

    def between(self, left: Mask, right: Mask) -> Nearness:
        """Return this with only rows of these two sides, (n,) each, near each other."""
        return replace(self, left=left, right=right)

    def matrix(self, one: Which, other: Which) -> Mask:
        """Return which rows are near which others, (a, b); every row is near itself.

        Args:
            one: row numbers (a,), or a slice; some hundred.
            other: row numbers (b,), or a slice.
        """
        queries, block = self.queries[one], self.vectors[other]
        floor, ceiling = limits_of(self.threshold, queries.shape[1])
        products = queries @ block.T
        near = products >= ceiling
        here, there = np.nonzero((products >= floor) & ~near)
        scores = scores_of(queries, here, block, there)
        near[here, there] = scores >= np.float32(self.threshold)
        if len(self.added):
            near[self.added.among(one, other, len(self))] = True
        if self._has_alike:
            here, there = self.alike[one], self.alike[other]
            near |= (here[:, np.newaxis] == there) & (there >= 0)
        if not self._all_count:
            near &= self._may_be_near(one, other)
        if len(self.removed):
            near[self.removed.among(one, other, len(self))] = False
        rows = np.arange(len(self))
        near |= rows[one][:, np.newaxis] == rows[other]
        return near

    def sums(self, weights: Rows, others: Which = _EVERY) -> Rows:
        """Return for each row the weight of all rows near it, itself included, (n,).

        Args:
            weights: of the others, (b,).
            others: what is counted; by default all rows.
        """
        columns = np.arange(len(self))[others]
        sums = np.zeros(len(self), np.intp)
        # Of rows that are alike, no products are needed.
        numbers = np.full(len(self), -1)
        if self._all_count and not len(self.removed):
            numbers = self.alike
        different, of_rows = np.unique(numbers, return_inverse=True)
        for number, members in zip(
            different.tolist(), Lists.by_number(of_rows, len(different)), strict=True
        ):
            same = (numbers[columns] == number) & (number >= 0)
            sums[members] += weights[same].sum()
            apart, weighed = columns[~same], weights[~same]
            for start in range(0, len(members), QUERIES_AT_ONCE):
                rows = members[start : start + QUERIES_AT_ONCE]
                for first in range(0, len(apart), ROWS_AT_ONCE):
                    some = slice(first, first + ROWS_AT_ONCE)
                    sums[rows] += self.matrix(rows, apart[some]) @ weighed[some]
        return sums

    def pairs(self, limit: int) -> Pairs | None:
        """Return all pairs of rows that are near each other, each once; None beyond a limit."""
        found = [Pairs.none(), self.counted(self.added)]
        classes = numbered(self.alike)
        count = sum(len(rows) * (len(rows) - 1) // 2 for rows in classes)
        if count > limit:
            return None
        for rows in classes:
            one, other = np.triu_indices(len(rows), 1)
            found.append(self.counted(Pairs(rows[one], rows[other])))
        for start in range(0, len(self), QUERIES_AT_ONCE):
            for pairs in self._pairs_from(slice(start, start + QUERIES_AT_ONCE)):
                found.append(pairs)
                count += len(pairs)
                if count > limit:
                    return None
        return _joined(found, len(self))

    def edges(
        self, threads: int = 1, progress: Callable[[int], None] = lambda rows: None
    ) -> Iterator[Pairs]:
        """Yield pairs of rows that are near each other: enough to connect all that are connected.

        Args:
            threads: to use; 0 means one per CPU core.
            progress: called with the number of rows that have been compared with all others.
        """
        yield self.linked()
        # Rows of the left side come first, so that pairs without one need not be compared.
        order = np.argsort(~self.left, kind="stable")
        compared = int(self.left.sum())
        rows = self if compared == len(self) else self.take(order)

        def edges_from(start: int) -> Pairs:
            return rows._edges_from(slice(start, min(compared, start + QUERIES_AT_ONCE)))

        starts = range(0, compared, QUERIES_AT_ONCE)
        for start, found in map_in_order(edges_from, starts, threads):
            yield Pairs(order[found.one], order[found.other])
            progress(min(compared - start, QUERIES_AT_ONCE))

    def linked(self) -> Pairs:
        """Return pairs that are near whatever they score: enough to connect all such rows."""
        found = [self.added]
        for rows in numbered(self.alike):
            for hub in self._hubs(rows).tolist():
                found.append(Pairs(np.full(len(rows) - 1, hub), rows[rows != hub]))
        return self.counted(_concatenated(found))

    def _hubs(self, rows: Rows) -> Rows:
        """Return some of the rows that are alike, which connect all that are near each other.

        That is one row for each part and kind of sides, or all of those if they have removed pairs.
        """
        kinds = 4 * self.parts[rows] + 2 * self.left[rows] + self.right[rows]
        free = ~np.isin(rows, np.concatenate([self.removed.one, self.removed.other]))
        hubs = []
        for kind in np.unique(kinds):
            alone = rows[(kinds == kind) & free][:1]
            hubs.append(alone if len(alone) else rows[kinds == kind])
        return np.concatenate(hubs)

    def _edges_from(self, rows: slice) -> Pairs:
        held, count, forest = [Pairs.none()], 0, None
        for pairs in self._pairs_from(rows):
            held.append(pairs)
            count += len(pairs)
            if forest is None and count > _MAX_HELD:
                forest = Forest(len(self))
            if forest is not None:
                for some in held:
                    forest.join(some.one, some.other)
                held = []
        return _concatenated(held) if forest is None else Pairs(*forest.edges())

    def _pairs_from(self, rows: slice) -> Iterator[Pairs]:
        """Yield the pairs of some rows with later ones, but for those that are added."""
        start = rows.start
        queries, block = self.queries[rows], self.vectors[start:]
        bounds = (self.bounds[rows], self.bounds[start:]) if self._has_bounds else None
        for here, there in near_pairs(queries, block, self.threshold, bounds):
            later = there > here
            pairs = self.counted(Pairs(here[later] + start, there[later] + start))
            if len(pairs):
                yield pairs

    def counted(self, pairs: Pairs) -> Pairs:
        """Return the pairs that sides, parts and removed pairs let be near."""
        if not self._all_count:
            one, other = pairs.one, pairs.other
            kept = (self.left[one] & self.right[other]) | (self.right[one] & self.left[other])
            pairs = pairs.where(kept & (self.parts[one] == self.parts[other]))
        if len(self.removed):
            removed = np.isin(_codes(pairs, len(self)), _codes(self.removed, len(self)))
            pairs = pairs.where(~removed)
        return pairs

    @property
    def _has_bounds(self) -> bool:
        """Whether the bounding vectors are shorter than the vectors."""
        return bool(self.bounds.shape[1] < self.vectors.shape[1])

    @cached_property
    def _has_alike(self) -> bool:
        """Whether rows are alike."""
        return bool((self.alike >= 0).any())

    @cached_property
    def _all_count(self) -> bool:
        """Whether all pairs count, but for those that are removed."""
        return bool((self.left & self.right).all() and (self.parts == self.parts[:1]).all())

    def _may_be_near(self, one: Which, other: Which) -> Mask:
        left, right = self.left, self.right
        sides = left[one][:, np.newaxis] & right[other]
        sides |= right[one][:, np.newaxis] & left[other]
        sides &= self.parts[one][:, np.newaxis] == self.parts[other]
        return sides


def _renumbered(pairs: Pairs, places: Rows) -> Pairs:
    """Return pairs by the places of their rows, without those of which a row has none."""
    renumbered = Pairs(places[pairs.one], places[pairs.other])
    return renumbered.where((renumbered.one >= 0) & (renumbered.other >= 0))


def _codes(pairs: Pairs, rows: int) -> npt.NDArray[np.int64]:
    """Return one number for each pair, (p,), whatever their order."""
    return np.minimum(pairs.one, pairs.other) * rows + np.maximum(pairs.one, pairs.other)


def _concatenated(parts: list[Pairs]) -> Pairs:
    return Pairs(
        np.concatenate([pairs.one for pairs in parts]),
        np.concatenate([pairs.other for pairs in parts]),
    )


def _joined(parts: list[Pairs], rows: int) -> Pairs:
    """Return the pairs of all parts, each once."""
    pairs = _concatenated(parts)
    _, firsts = np.unique(_codes(pairs, rows), return_index=True)
    return Pairs(pairs.one[firsts], pairs.other[firsts])
