"""Which rows are connected by pairs: disjoint sets, on arrays.

What holds the sets is a forest, of which any number can be joined in any order to the same sets.
So pairs need not be held: a forest of n rows has fewer than n edges.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


class Forest:
    """Sets of rows, each of which is alone at first."""

    def __init__(self, rows: int) -> None:
        # A parent is lower than its children, so that the root of a set is its lowest row.
        self._parents = np.arange(rows)

    def join(self, one: Rows, other: Rows) -> None:
        """Join the sets of pairs of rows, (p,)."""
        # Most of many pairs are joined already, and nearly all of those have the same parent.
        one, other = self._parents[one], self._parents[other]
        while True:
            apart = one != other
            one, other = self._roots(one[apart]), self._roots(other[apart])
            if not len(one):
                return
            lower, higher = np.minimum(one, other), np.maximum(one, other)
            # Of several new parents of one root the last stays; the next round joins the others.
            self._parents[higher] = lower
            one, other = lower, higher

    def edges(self) -> tuple[Rows, Rows]:
        """Return pairs of rows, (e,), that join the same sets: each row with the lowest of its."""
        labels = self.labels()
        rows = np.flatnonzero(labels != np.arange(len(labels)))
        return rows, labels[rows]

    def labels(self) -> Rows:
        """Return for each row the lowest row of its set, (n,)."""
        parents = self._parents
        while True:
            above = parents[parents]
            if (above == parents).all():
                return above
            parents = above

    def _roots(self, rows: Rows) -> Rows:
        while True:
            above = self._parents[rows]
            higher = self._parents[above]
            if (above == higher).all():
                return above
            self._parents[rows] = higher  # halves the way for those that come later
            rows = higher


def connected(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sets that pairs of numbers, (p,), connect.

    Returns:
        (2, m): numbers, ascending, that occur in pairs, and of each the lowest of its set.
    """
    numbers, places = np.unique(np.concatenate([one, other]), return_inverse=True)
    forest = Forest(len(numbers))
    forest.join(places[: len(one)], places[len(one) :])
    return np.stack([numbers, numbers[forest.labels()]])
