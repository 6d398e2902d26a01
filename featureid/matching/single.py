"""Single queries: where rows are held in memory, by eight-bit rows if those are faster.

Whether they are depends on the processor and on the rows, so it is measured. The answers are the
same either way: those that the bound of the eight-bit rows does not prove are searched for exactly.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from time import perf_counter

import numpy as np
import numpy.typing as npt

from featureid.matching.eight_bits import EightBits
from featureid.matching.exact import Blocks, Found, SortKeys, rows_of, search_among, search_top

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]

# Of fewer, a search takes a few milliseconds.
_FEWEST_ROWS = 1 << 17
# Candidates beyond k: enough to prove nearly all answers.
_MORE = 100
# What is searched for to measure.
_MEASURED_QUERIES, _MEASURED_K = 4, 10


@dataclass(frozen=True)
class HeldRows:
    """Rows that are held in memory.

    Attributes:
        blocks: the rows.
        num_rows: how many they are.
        vectors_of: row numbers (m,), ascending -> their vectors, float32 (m, d).
        sort_keys: the order of rows of equal score.
    """

    blocks: Blocks
    num_rows: int
    vectors_of: Callable[[Rows], Matrix]
    sort_keys: SortKeys


class SingleQueries:
    """Searches the same rows for one query at a time, from several threads if need be.

    With the second query come the eight-bit rows, a fourth of the memory of the rows; they are
    dropped if searching by them is not measured to be faster.
    """

    def __init__(self) -> None:
        self._eight_bits: EightBits | None = None
        self._until_measured = 2
        self._lock = threading.Lock()

    @property
    def uses_eight_bits(self) -> bool:
        """Whether eight-bit rows are used."""
        return self._eight_bits is not None

    def search(self, query: Matrix, k: int, rows: HeldRows) -> Found:
        """Return the ``k`` best rows for a query, float32 (1, d)."""
        if self._until_measured and rows.num_rows >= _FEWEST_ROWS and find_spec("faiss"):
            with self._lock:
                if self._until_measured == 1:
                    self._eight_bits = _if_faster(rows, query.shape[1])
                self._until_measured = max(0, self._until_measured - 1)
        return _found(query, k, rows, self._eight_bits)


def _if_faster(rows: HeldRows, dimension: int) -> EightBits | None:
    """Return the eight-bit rows, if searching by them is faster."""
    eight_bits = EightBits.of(rows.blocks, dimension)
    numbers = np.arange(_MEASURED_QUERIES) * (rows.num_rows // _MEASURED_QUERIES)
    ways = None, eight_bits
    seconds = [0.0, 0.0]
    for vector in rows_of(rows.blocks, numbers, dimension):
        for number, way in enumerate(ways):
            start = perf_counter()
            _found(vector[np.newaxis], _MEASURED_K, rows, way)
            seconds[number] += perf_counter() - start
    return ways[int(np.argmin(seconds))]


def _found(query: Matrix, k: int, rows: HeldRows, eight_bits: EightBits | None) -> Found:
    if eight_bits is not None:
        near, highest = eight_bits.nearest(query, min(k + _MORE, rows.num_rows))
        pairs = [(np.zeros_like(near), near)]
        every = np.full(1, -2, np.float32)
        (found,) = search_among(query, pairs, rows.vectors_of, every, k, rows.sort_keys)
        if found.scores[-1] > highest:
            return replace(found, total=rows.num_rows)
    (found,) = search_top(query, rows.blocks, k, rows.sort_keys)
    return found
