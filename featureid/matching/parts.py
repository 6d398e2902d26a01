"""Parts of a snapshot, which a worker reads where they lie: ranges of blocks, or some rows of them.

A part is small and says what to read; :class:`PartRows` reads it. Cutting a snapshot into parts
reads nothing but its manifest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.storage.manifest import Manifest
from featureid.storage.reader import Snapshot
from featureid.storage.selection import Selection

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RowRange:
    """Rows of a shard: those of the blocks whose first row is in a range, or some of them.

    Attributes:
        shard: number of the shard.
        start: the first row of a block in the range is this one or a later one,
        stop: and before this one.
        rows: int32, the numbers in the shard, ascending, of the rows to take; None for all.
    """

    shard: int
    start: int
    stop: int
    rows: npt.NDArray[np.int32] | None = None

    @property
    def place(self) -> tuple[int, int, int]:
        """Where its blocks are."""
        return self.shard, self.start, self.stop

    @property
    def num_rows(self) -> int:
        """Number of rows; without ``rows`` it may be off by part of a block."""
        return self.stop - self.start if self.rows is None else len(self.rows)

    def piece(self, first: int, stop: int) -> RowRange:
        """Return some of the rows, by their numbers in this range."""
        if self.rows is None:
            stop = min(self.start + stop, self.stop)
            return replace(self, start=self.start + first, stop=stop)
        # A block may lie in two pieces, which take different rows of it.
        return replace(self, rows=self.rows[first:stop])


#: Ranges whose rows are matched together.
Part = tuple[RowRange, ...]


def cut(ranges: Iterable[RowRange], rows: int) -> list[Part]:
    """Cut ranges into parts of ``rows`` rows each, but for the last; a block is never cut.

    So a part may have part of a block more or less, unless its ranges have ``rows``.
    """
    parts: list[Part] = []
    waiting: list[RowRange] = []
    room = rows
    for range_ in ranges:
        done = 0
        while done < range_.num_rows:
            piece = range_.piece(done, done + room)
            waiting.append(piece)
            done += piece.num_rows
            room -= piece.num_rows
            if not room:
                parts.append(tuple(waiting))
                waiting, room = [], rows
    return [*parts, tuple(waiting)] if waiting else parts


def num_rows(part: Iterable[RowRange]) -> int:
    """Return the number of rows of a part."""
    return sum(range_.num_rows for range_ in part)


def whole(manifest: Manifest) -> list[RowRange]:
    """Return all rows of a snapshot, a range for each shard that has any."""
    return [
        RowRange(number, 0, summary.rows)
        for number, summary in enumerate(manifest.embeddings)
        if summary.rows
    ]


class PartRows:
    """The rows of a part, numbered from 0; vectors and keys are read when they are asked for.

    Args:
        snapshot: the snapshot.
        part: what to take of it.

    Attributes:
        num_rows: number of rows.

    Raises:
        StorageError: the snapshot is damaged or cannot be read.
    """

    def __init__(self, snapshot: Snapshot, part: Part) -> None:
        firsts = [*accumulate((s.rows for s in snapshot.manifest.embeddings), initial=0)]
        places: list[tuple[int, int]] = []
        kept: list[Rows] = []
        # Of each block that is read: its first row in the selection, and in the snapshot.
        self._starts: list[int] = []
        self._numbers: list[int] = []
        read = 0
        for range_ in part:
            for block, start, offsets in _blocks(snapshot, range_):
                places.append((range_.shard, block))
                self._starts.append(read)
                self._numbers.append(firsts[range_.shard] + start)
                kept.append(read + offsets)
                read += snapshot.shard_map(range_.shard).index.blocks[block].rows
        self._kept = np.concatenate([np.empty(0, np.intp), *kept])
        self.num_rows = len(self._kept)
        self._selection = Selection(snapshot, places=places)

    @property
    def has_faces(self) -> bool:
        """Whether rows are faces."""
        return bool(self._selection.snapshot.model.faces)

    def vectors(self) -> Matrix:
        """Return the vectors, float32 (rows, dimension)."""
        vectors = self._selection.vectors()
        return vectors if len(vectors) == self.num_rows else vectors[self._kept]

    def values(self, name: str, rows: Rows) -> list[Any]:
        """Return one column of some rows, as :meth:`Selection.values` does; blocks are read once.

        Args:
            name: name of the column.
            rows: numbers of rows, in any order.
        """
        different, places = np.unique(self._kept[rows], return_inverse=True)
        values = self._selection.values(name, different.tolist())
        return [values[place] for place in places.tolist()]

    def numbers(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the numbers in the snapshot of some rows."""
        places = self._kept[rows]
        blocks = np.searchsorted(self._starts, places, side="right") - 1
        first_numbers = np.asarray(self._numbers, np.int64)
        first_places = np.asarray(self._starts, np.int64)
        numbers: npt.NDArray[np.int64] = first_numbers[blocks] + places - first_places[blocks]
        return numbers


def _blocks(snapshot: Snapshot, range_: RowRange) -> Iterator[tuple[int, int, Rows]]:
    """Yield number, first row and the rows taken, from 0, of each block of a range."""
    start = 0
    for block, entry in enumerate(snapshot.shard_map(range_.shard).index.blocks):
        if range_.start <= start < range_.stop:
            offsets: Rows = np.arange(entry.rows)
            if range_.rows is not None:
                first, last = np.searchsorted(range_.rows, [start, start + entry.rows])
                offsets = range_.rows[first:last].astype(np.intp) - start
            if len(offsets):
                yield block, start, offsets
        start += entry.rows


def count_rows(snapshot: Snapshot, part: Part) -> int:
    """Return the exact number of rows of a part; reads the indexes of its shards."""
    return sum(len(offsets) for range_ in part for _, _, offsets in _blocks(snapshot, range_))


def joined(parts: Sequence[Part]) -> Part:
    """Return the rows of consecutive parts as one."""
    found: list[RowRange] = []
    for range_ in (range_ for part in parts for range_ in part):
        if found and range_.rows is not None and found[-1].place == range_.place:
            # Pieces of one range, which may share a block.
            rows = np.concatenate([found[-1].rows, range_.rows])
            found[-1] = replace(range_, rows=rows)
        else:
            found.append(range_)
    return tuple(found)
