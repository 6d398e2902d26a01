"""Centers of many rows by k-means, among which the nearest one of a row is found quickly.

With thousands of centers, most of the time goes into products of rows with centers that are far
away. So the centers are grouped around centers of their own, and a row is compared with those of
the nearest groups alone. Now and then that misses the nearest center, and finds one about as near.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from featureid.parallel import map_in_order

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# More rounds and groups take longer and make no better lists; fewer groups make worse ones.
_ROUNDS = 3
_SHARE_OF_GROUPS = 0.2
_ROUNDS_OF_FEW = 6
# Of so many rows, those that look into the same group are multiplied with it at once.
_ROWS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Centers:
    """Centers in groups.

    Attributes:
        groups: float32 (g, d), the centers of the groups.
        sizes: how many centers each has, (g,).
        centers: float32 (l, d), group by group.
    """

    groups: Matrix
    sizes: Rows
    centers: Matrix

    @classmethod
    def of(
        cls, sample: Matrix, count: int, random: np.random.Generator, threads: int = 1
    ) -> Centers:
        """Find centers of rows by Lloyd's algorithm.

        Args:
            sample: float32 (n, d), in random order, at least ``count`` of them.
            count: how many centers.
            random: where groups are started from.
            threads: to use.
        """
        found = cls.grouped(sample[:count], random)
        for _ in range(_ROUNDS):
            nearest = found.nearest(sample, threads)
            found = cls.grouped(_means(sample, nearest, found.centers), random)
        return found

    @classmethod
    def grouped(cls, centers: Matrix, random: np.random.Generator) -> Centers:
        """Group centers, as many groups as the square root of their number."""
        groups = k_means(centers, int(len(centers) ** 0.5), random)
        mine = nearness(centers, groups).argmax(axis=1)
        sizes = np.bincount(mine, minlength=len(groups))
        return cls(groups, sizes, centers[order_of(mine, len(groups))])

    def nearest(self, vectors: Matrix, threads: int = 1) -> Rows:
        """Return the number of about the nearest center of each vector, (n,)."""
        starts = range(0, len(vectors), _ROWS_AT_ONCE)
        parts = (vectors[start : start + _ROWS_AT_ONCE] for start in starts)
        found = (nearest for _, nearest in map_in_order(self._nearest, parts, threads))
        return np.concatenate([np.empty(0, np.intp), *found])

    def _nearest(self, vectors: Matrix) -> Rows:
        looked_into = highest(
            nearness(vectors, self.groups), max(1, round(_SHARE_OF_GROUPS * len(self.groups)))
        )
        best = np.full(len(vectors), -np.inf, np.float32)
        nearest = np.zeros(len(vectors), np.intp)
        starts = np.cumsum(self.sizes) - self.sizes
        for group, mine in members(looked_into, len(self.groups)):
            start, end = starts[group], starts[group] + self.sizes[group]
            if start == end:
                continue
            near = nearness(vectors[mine], self.centers[start:end])
            places = near.argmax(axis=1)
            near = near[np.arange(len(mine)), places]
            nearer = near > best[mine]
            best[mine[nearer]] = near[nearer]
            nearest[mine[nearer]] = places[nearer] + start
        return nearest


def k_means(vectors: Matrix, count: int, random: np.random.Generator) -> Matrix:
    """Return some centers of vectors, float32 (count, d)."""
    centers = vectors[random.choice(len(vectors), count, replace=False)]
    for _ in range(_ROUNDS_OF_FEW):
        centers = _means(vectors, nearness(vectors, centers).argmax(axis=1), centers)
    return centers


def nearness(vectors: Matrix, centers: Matrix) -> Matrix:
    """Return numbers (n, l) that are the higher the nearer a center is to a vector."""
    near: Matrix = vectors @ centers.T
    near -= np.einsum("ij,ij->i", centers, centers) / 2
    return near


def highest(numbers: Matrix, count: int) -> Rows:
    """Return the places of the highest numbers of each row, (n, count), the highest one first."""
    if count < numbers.shape[1]:
        places = np.argpartition(-numbers, count, axis=1)[:, :count]
    else:
        places = np.broadcast_to(np.arange(numbers.shape[1]), numbers.shape).copy()
    first = np.take_along_axis(numbers, places, axis=1).argmax(axis=1)
    every = np.arange(len(places))
    places[every, 0], places[every, first] = places[every, first], places[every, 0]
    return places


def members(groups: Rows, count: int) -> Iterator[tuple[int, Rows]]:
    """Yield the number of each group that is not empty, and its rows, (m,).

    Args:
        groups: the groups of each row, (n, g).
        count: how many groups there are.
    """
    order = order_of(groups.ravel(), count)
    ends = np.searchsorted(groups.ravel()[order], np.arange(count + 1)).tolist()
    rows = order // max(1, groups.shape[1])
    for group, (start, end) in enumerate(pairwise(ends)):
        if start < end:
            yield group, rows[start:end]


def order_of(numbers: Rows, count: int) -> Rows:
    """Return the places of numbers below ``count``, (n,), lowest number first, then by place."""
    # NumPy sorts 16 bits in linear time.
    short = numbers.astype(np.uint16) if count <= 1 << 16 else numbers
    return np.argsort(short, kind="stable")


def _means(vectors: Matrix, nearest: Rows, centers: Matrix) -> Matrix:
    """Return the average of the vectors of each center, or the center if it has none."""
    sizes = np.bincount(nearest, minlength=len(centers))
    there = sizes > 0
    starts = (np.cumsum(sizes) - sizes)[there]
    sums = np.add.reduceat(vectors[order_of(nearest, len(centers))], starts, axis=0)
    means = centers.copy()
    means[there] = sums / sizes[there, np.newaxis]
    return means
