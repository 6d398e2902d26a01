"""Groups of rows that are close: stars around centers, or connected components."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from featureid.matching.pairs import Pairs

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Graph:
    """Rows and their neighbors, in compressed form.

    Attributes:
        starts: where the neighbors of each row start, (n + 1,).
        neighbors: row numbers, (2 p,), ascending for each row.
    """

    starts: Rows
    neighbors: Rows

    @classmethod
    def of(cls, pairs: Pairs, rows: int) -> Graph:
        """Return the graph of pairs of ``rows`` rows."""
        # One sort of numbers that hold both rows: the pairs may be many millions.
        both = np.concatenate(
            [pairs.lower * rows + pairs.higher, pairs.higher * rows + pairs.lower]
        )
        both.sort()
        starts = np.searchsorted(both, np.arange(rows + 1) * rows)
        both %= max(1, rows)
        return cls(starts, both)

    def neighbors_of(self, row: int) -> Rows:
        """Return the neighbors of a row, ascending."""
        return self.neighbors[self.starts[row] : self.starts[row + 1]]


def stars(graph: Graph, weights: Rows, preference: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield groups whose members are all neighbors of their center: no row is reached by a chain.

    The row with the most neighbors becomes the first center and takes them all; then the row with
    the most among those that are left, and so on.

    Args:
        graph: the rows.
        weights: how many images each row stands for, (n,).
        preference: (n,) different numbers; of rows with as many neighbors the lowest goes first.

    Yields:
        The center and the other members, ascending; at least one.
    """
    taken = np.zeros(len(graph.starts) - 1, bool)

    def images(row: int) -> int:
        near = graph.neighbors_of(row)
        return int(weights[near[~taken[near]]].sum() + weights[row])

    linked = np.flatnonzero(np.diff(graph.starts)).tolist()
    heap = [(-images(row), int(preference[row]), row) for row in linked]
    heapq.heapify(heap)
    while heap:
        count, prefer, center = heapq.heappop(heap)
        if taken[center]:
            continue
        if images(center) < -count:  # Others have taken some of its neighbors.
            heapq.heappush(heap, (-images(center), prefer, center))
            continue
        neighbors = graph.neighbors_of(center)
        members = neighbors[~taken[neighbors]]
        taken[center] = True
        taken[members] = True
        if len(members):
            yield center, members


def components(graph: Graph) -> Iterator[Rows]:
    """Yield the connected components with two rows or more, each ascending."""
    seen = np.zeros(len(graph.starts) - 1, bool)
    for start in np.flatnonzero(np.diff(graph.starts)).tolist():
        if seen[start]:
            continue
        seen[start] = True
        members, waiting = [start], [start]
        while waiting:
            near = graph.neighbors_of(waiting.pop())
            new = near[~seen[near]]
            seen[new] = True
            members += new.tolist()
            waiting += new.tolist()
        yield np.sort(np.array(members, np.intp))
