"""Parts by cells in steps that different machines take, each for some of the rows.

:func:`featureid.matching.cells.parts_by_cells` does the same in memory, with the same result. What
travels from step to step are rows with their numbers in the collection, to the cells that they
belong to; and edges, pairs of numbers that connect the same rows as all near pairs do: fewer than
there are rows, however many pairs are near.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.candidates import QUERIES_AT_ONCE
from featureid.matching.cells import (
    Recall,
    draw_pivots,
    draw_sample,
    in_large_parts,
    nearest_pivots,
    ordered,
)
from featureid.matching.forest import connected
from featureid.matching.identical import identical_rows, row_hashes
from featureid.matching.lists import Lists
from featureid.matching.near import Nearness, near_pairs

Matrix = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]

# Rows of a slice that are sent together, 2 MB.
_SENT_ROWS = 1 << 12


@dataclass(frozen=True, eq=False)
class NumberedRows:
    """Some rows of a collection.

    Attributes:
        numbers: of the rows in the collection, int64 (n,).
        vectors: float32 (n, d).
    """

    numbers: Numbers
    vectors: Matrix

    @classmethod
    def joined(cls, parts: Sequence[NumberedRows]) -> NumberedRows:
        """Return the rows of one or several parts."""
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.numbers)

    def take(self, rows: npt.NDArray[np.intp] | Mask) -> NumberedRows:
        """Return some of the rows."""
        return NumberedRows(self.numbers[rows], self.vectors[rows])

    def distinct(self) -> tuple[NumberedRows, Numbers]:
        """Return one row of each vector, and the edges (2, e) from the others to it."""
        order = np.argsort(self.numbers, kind="stable")
        rows = self.take(order)
        firsts = identical_rows(rows.vectors)
        others = firsts != np.arange(len(rows))
        edges = np.stack([rows.numbers[others], rows.numbers[firsts[others]]])
        return rows.take(~others), edges


@dataclass(frozen=True, eq=False)
class Drawn:
    """What is drawn from a collection at random, before its rows are compared.

    Attributes:
        pivots: those of each set of cells, float32 (p, d).
        sample: rows whose pairs are counted.
    """

    pivots: tuple[Matrix, ...]
    sample: NumberedRows

    @classmethod
    def of(cls, rows: NumberedRows, total: int) -> Drawn:
        """Return what is drawn from some of the ``total`` rows of a collection."""
        rows, _ = rows.distinct()
        sample = rows.take(draw_sample(rows.vectors, total))
        return cls(draw_pivots(rows.vectors, total), sample)

    @classmethod
    def joined(cls, parts: Sequence[Drawn]) -> Drawn:
        """Return what is drawn from a collection, from what was drawn from its parts."""
        if not parts:
            return cls((), NumberedRows(np.empty(0, np.int64), np.empty((0, 0), np.float32)))
        sets = (np.concatenate(some) for some in zip(*(part.pivots for part in parts), strict=True))
        pivots = tuple(ordered(some[np.unique(identical_rows(some))]) for some in sets)
        return cls(pivots, NumberedRows.joined([part.sample for part in parts]).distinct()[0])


@dataclass(frozen=True, eq=False)
class SampledPairs:
    """Pairs of near rows, one of them of the sample.

    Attributes:
        hashes: of the vectors of both, the lower first, uint64 (2, p): those of copies are equal.
        numbers: of rows with these vectors, int64 (2, p).
        cells: the nearest pivot of each row in the first set of cells, (2, p).
    """

    hashes: npt.NDArray[np.uint64]
    numbers: Numbers
    cells: Numbers

    @classmethod
    def joined(cls, parts: Iterable[SampledPairs]) -> SampledPairs:
        """Return the pairs of all parts; of those with the same vectors one."""
        none = np.empty((2, 0), np.int64)
        every = [cls(none.astype(np.uint64), none, none), *parts]
        hashes = np.concatenate([part.hashes for part in every], axis=1)
        _, firsts = np.unique(hashes, axis=1, return_index=True)
        return cls(
            hashes[:, firsts],
            np.concatenate([part.numbers for part in every], axis=1)[:, firsts],
            np.concatenate([part.cells for part in every], axis=1)[:, firsts],
        )


@dataclass(frozen=True, eq=False)
class Assigned:
    """Some rows, one of each vector, with the cells that they belong to.

    Attributes:
        rows: the rows.
        cells: for each set of cells, those of each row, (n, 2).
        edges: from the rows with the same vectors, (2, e).
    """

    rows: NumberedRows
    cells: tuple[Numbers, ...]
    edges: Numbers

    @classmethod
    def of(cls, rows: NumberedRows, drawn: Drawn) -> Assigned:
        """Assign rows to cells."""
        distinct, edges = rows.distinct()
        cells = tuple(nearest_pivots(distinct.vectors, pivots) for pivots in drawn.pivots)
        return cls(distinct, cells, edges)

    def by_cell(self) -> Iterator[tuple[tuple[int, int], NumberedRows]]:
        """Yield the rows of each cell, with the number of its set and its own."""
        for number, cells in enumerate(self.cells):
            different, places = np.unique(cells, return_inverse=True)
            lists = Lists.by_number(places.ravel(), len(different))
            for cell, members in zip(different.tolist(), lists, strict=True):
                yield (number, cell), self.rows.take(members // cells.shape[1])

    def sampled_pairs(self, drawn: Drawn, threshold: float) -> SampledPairs:
        """Return the pairs of near rows of the sample and these."""
        sample = drawn.sample
        own, their = (row_hashes(rows.vectors) for rows in (sample, self.rows))
        nearest = nearest_pivots(sample.vectors, drawn.pivots[0])[:, 0], self.cells[0][:, 0]
        found = []
        for start in range(0, len(sample), QUERIES_AT_ONCE):
            queries = sample.vectors[start : start + QUERIES_AT_ONCE]
            for here, there in near_pairs(queries, self.rows.vectors, threshold):
                different = own[here + start] != their[there]
                one, other = here[different] + start, there[different]
                hashes = np.sort(np.stack([own[one], their[other]]), axis=0)
                numbers = np.stack([sample.numbers[one], self.rows.numbers[other]])
                cells = np.stack([nearest[0][one], nearest[1][other]])
                found.append(SampledPairs(hashes, numbers, cells))
        return SampledPairs.joined(found)


def edges_of_cell(rows: NumberedRows, threshold: float) -> Numbers:
    """Return the edges, (2, e), that connect the near rows of a cell."""
    distinct, edges = rows.distinct()
    return _edges(Nearness.of(distinct.vectors, threshold), distinct.numbers, edges)


def edges_between(one: NumberedRows, other: NumberedRows, threshold: float) -> Numbers:
    """Return the edges, (2, e), that connect near rows of two slices of a cell."""
    both = NumberedRows.joined([one, other])
    left = np.arange(len(both)) < len(one)
    near = Nearness.of(both.vectors, threshold).between(left, ~left)
    return _edges(near, both.numbers, np.empty((2, 0), np.int64))


def _edges(near: Nearness, numbers: Numbers, more: Numbers) -> Numbers:
    found = [numbers[np.stack([pairs.one, pairs.other])] for pairs in near.edges()]
    return thinned(np.concatenate([more, *found], axis=1))


def thinned(edges: Numbers) -> Numbers:
    """Return fewer edges, (2, e), that connect the same rows: each to the lowest of its part."""
    numbers, roots = connected(edges[0], edges[1])
    return np.stack([numbers, roots])[:, numbers != roots]


def cut_into_slices(
    batches: Iterable[NumberedRows], slices: int
) -> Iterator[tuple[int, NumberedRows]]:
    """Yield the rows of a cell, some at a time, with the number of the slice that they are of."""
    waiting: list[list[NumberedRows]] = [[] for _ in range(slices)]
    for batch in batches:
        which = batch.numbers % slices
        for number in np.unique(which).tolist():
            held = waiting[number]
            held.append(batch.take(which == number))
            if sum(map(len, held)) >= _SENT_ROWS:
                yield number, NumberedRows.joined(held)
                held.clear()
    for number, held in enumerate(waiting):
        if held:
            yield number, NumberedRows.joined(held)


@dataclass(frozen=True, eq=False)
class Parts:
    """All rows that are near others.

    Attributes:
        numbers: of the rows, ascending, (m,).
        roots: the lowest number of a row in the part of each, (m,).
    """

    numbers: Numbers
    roots: Numbers

    @classmethod
    def of(cls, edges: Numbers) -> Parts:
        """Return the parts that edges, (2, e), connect."""
        return cls(*connected(edges[0], edges[1]))

    def large(self) -> Mask:
        """Return which rows are in a part that is cut by the nearest pivots of its rows, (m,)."""
        return in_large_parts(self.roots, np.ones(len(self.roots), np.intp))

    def recall(self, pairs: SampledPairs) -> Recall:
        """Return how many of the pairs are in one part."""
        if not len(self.numbers):
            return Recall(0, pairs.numbers.shape[1])
        places = np.minimum(np.searchsorted(self.numbers, pairs.numbers), len(self.numbers) - 1)
        known = self.numbers[places] == pairs.numbers
        roots = np.where(known, self.roots[places], pairs.numbers)
        same_cell = (pairs.cells[0] == pairs.cells[1]) | ~self.large()[places[0]]
        return Recall(int(((roots[0] == roots[1]) & same_cell).sum()), roots.shape[1])
