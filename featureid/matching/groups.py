"""Groups of rows that are near: stars around centers, or whatever pairs connect.

The pairs of a few thousand rows that look alike are many millions. So pairs are held only if there
are few; otherwise it is found out anew which rows are near which others, as often as that is asked.
Both ways lead to the same groups.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from featureid.matching.lists import Lists
from featureid.matching.near import Nearness

Rows = npt.NDArray[np.intp]

# Rows that are put together, so that small parts do not cost a call each.
_ROWS_AT_ONCE = 512
# Pairs that are held: so many, or so many times the number of rows if that is more.
_MAX_HELD, _MAX_HELD_PER_ROW = 1 << 20, 32


def batches(parts: Rows) -> Iterator[Rows]:
    """Yield the rows of all parts of two rows or more, some whole parts at a time.

    Args:
        parts: the number of the part of each row, (n,).
    """
    order = np.argsort(parts, kind="stable")
    starts = np.flatnonzero(np.diff(parts[order], prepend=-1))
    sizes = np.diff(starts, append=len(order))
    kept = np.repeat(sizes > 1, sizes)
    order = order[kept]
    ends = np.cumsum(sizes[sizes > 1])
    start = 0
    while start < len(order):
        # The first end that makes a batch large enough, or the last one.
        number = min(int(np.searchsorted(ends, start + _ROWS_AT_ONCE)), len(ends) - 1)
        end = int(ends[number])
        yield np.sort(order[start:end])
        start = end


def stars(near: Nearness, weights: Rows, preference: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield groups whose members are all near their center: no row is reached by a chain.

    The row with the most images near it becomes the first center and takes them all; then the row
    with the most among those that are left, and so on. Not held are pairs of rows that have very
    many; it then takes about twice as many products as there are pairs, and one for each center and
    row, but memory only for the rows.

    Args:
        near: which rows are near each other.
        weights: how many images each row stands for, (n,).
        preference: (n,) different numbers; of rows with as many images the lowest goes first.

    Yields:
        The center and the other members, ascending; at least one.
    """
    pairs = near.pairs(max(_MAX_HELD, _MAX_HELD_PER_ROW * len(near)))
    if pairs is None:
        return _stars_on_demand(near, weights, preference)
    neighbors = Lists.of_neighbors(pairs.one, pairs.other, len(near))
    return _stars_of_lists(neighbors, weights, preference)


def _stars_of_lists(
    neighbors: Lists, weights: Rows, preference: Rows
) -> Iterator[tuple[int, Rows]]:
    taken = np.zeros(len(neighbors), np.bool_)

    def images(row: int) -> int:
        near = neighbors[row]
        return int(weights[near[~taken[near]]].sum() + weights[row])

    linked = np.flatnonzero(neighbors.lengths).tolist()
    heap = [(-images(row), int(preference[row]), row) for row in linked]
    heapq.heapify(heap)
    while heap:
        count, prefer, center = heapq.heappop(heap)
        if taken[center]:
            continue
        if images(center) < -count:  # Others have taken some of its neighbors.
            heapq.heappush(heap, (-images(center), prefer, center))
            continue
        members = neighbors[center][~taken[neighbors[center]]]
        taken[center] = True
        taken[members] = True
        if len(members):
            yield center, members


def _stars_on_demand(near: Nearness, weights: Rows, preference: Rows) -> Iterator[tuple[int, Rows]]:
    numbers = np.arange(len(near))
    images = near.sums(weights)
    free = np.ones(len(near), np.bool_)
    while True:
        linked = np.flatnonzero(free & (images > weights))
        if not len(linked):
            return
        most = linked[images[linked] == images[linked].max()]
        center = int(most[preference[most].argmin()])
        taken = np.flatnonzero(near.matrix(np.array([center]), slice(None))[0] & free)
        free[taken] = False
        yield int(numbers[center]), numbers[taken[taken != center]]
        images -= near.sums(weights[taken], taken)
        if 2 * free.sum() < len(free):  # Those that are taken need not be looked at any more.
            left = np.flatnonzero(free)
            near, free = near.take(left), free[left]
            numbers, images = numbers[left], images[left]
            weights, preference = weights[left], preference[left]


def components(near: Nearness, weights: Rows, preference: Rows) -> Iterator[tuple[int, Rows]]:
    """Yield groups of all rows of a part; chains are followed.

    Args:
        near: which rows are near each other; those of a part are connected.
        weights: how many images each row stands for, (n,).
        preference: (n,) different numbers.

    Yields:
        The center, the row with the most images near it, or of those the one with the lowest
        preference; and the other members, ascending.
    """
    images = near.sums(weights) - weights
    parts, numbers = np.unique(near.parts, return_inverse=True)
    for rows in Lists.by_number(numbers, len(parts)):
        if len(rows) > 1:
            center = int(rows[np.lexsort((preference[rows], -images[rows]))[0]])
            yield center, rows[rows != center]
