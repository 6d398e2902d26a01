"""Lists of rows of different lengths, in two arrays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Lists:
    """A list of rows for each number from 0.

    Attributes:
        starts: where the list of each number starts in ``rows``, and where the last one ends,
            (n + 1,).
        rows: row numbers, ascending in each list.
    """

    starts: Rows
    rows: Rows

    @classmethod
    def by_number(cls, numbers: Rows, count: int) -> Lists:
        """Return for each number below ``count`` the places where it stands in ``numbers``."""
        order = np.argsort(numbers, kind="stable")
        return cls(np.searchsorted(numbers[order], np.arange(count + 1)), order)

    @classmethod
    def of_neighbors(cls, one: Rows, other: Rows, count: int) -> Lists:
        """Return the neighbors of each of ``count`` rows from pairs (p,), no pair twice."""
        # One sort of numbers that hold both rows: the pairs may be many millions.
        both = np.concatenate([one * count + other, other * count + one])
        both.sort()
        starts = np.searchsorted(both, np.arange(count + 1) * count)
        both %= max(1, count)
        return cls(starts, both)

    @property
    def lengths(self) -> Rows:
        """Number of rows in each list, (n,)."""
        lengths: Rows = np.diff(self.starts)
        return lengths

    def __len__(self) -> int:
        """Return the number of lists."""
        return len(self.starts) - 1

    def __getitem__(self, number: int) -> Rows:
        """Return the list of a number."""
        return self.rows[self.starts[number] : self.starts[number + 1]]

    def __iter__(self) -> Iterator[Rows]:
        """Yield all lists."""
        return (self[number] for number in range(len(self)))


def numbered(numbers: Rows) -> list[Rows]:
    """Return the rows of each number from 0 that occurs, ascending; -1 stands for no number."""
    rows = np.flatnonzero(numbers >= 0)
    different, of_rows = np.unique(numbers[rows], return_inverse=True)
    return [rows[places] for places in Lists.by_number(of_rows, len(different))]
