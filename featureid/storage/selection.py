"""Some rows of a snapshot: those whose keys have a prefix, of some blocks, or all; from 0."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.storage import layout
from featureid.storage.columns import Values
from featureid.storage.files import RangeReader
from featureid.storage.reader import Snapshot
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot_shard import block_values, joined_blocks

Matrix = npt.NDArray[np.float32]

#: 32 MB of 128 dimensions: large enough for matrix products to be efficient.
ROWS_AT_ONCE = 1 << 16
# Blocks whose keys are kept: those of 1.5 million rows, some 200 MB of keys.
_KEPT_BLOCKS = 1 << 10


@dataclass(frozen=True, slots=True)
class _Piece:
    """Consecutive rows of one block."""

    shard: int
    block: int
    start: int
    stop: int


class Selection:
    """The rows of a snapshot whose keys start with a prefix, in the snapshot's order.

    Since a shard is sorted by key, they are consecutive in each shard, and only their blocks are
    read.

    Args:
        snapshot: the snapshot.
        prefix: what the keys start with; "" for all rows.
        places: take all rows of these blocks instead, in this order: pairs of shard and block,
            those of a shard together.

    Attributes:
        snapshot: the snapshot.
        num_rows: number of selected rows.

    Raises:
        StorageError: the snapshot is damaged or cannot be read.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        prefix: str = "",
        places: Iterable[tuple[int, int]] | None = None,
    ) -> None:
        self.snapshot = snapshot
        self._prefix = prefix
        pieces = _pieces(snapshot, prefix) if places is None else _whole(snapshot, places)
        self._pieces = [*pieces]
        sizes = (piece.stop - piece.start for piece in self._pieces)
        self._first_rows = [*accumulate(sizes, initial=0)]
        self.num_rows = self._first_rows[-1]
        self._block = lru_cache(_KEPT_BLOCKS)(self._read_block)

    def vectors(self, threads: int = 0) -> Matrix:
        """Return the vectors, float32 (rows, dimension)."""
        return next(self.batches(max(1, self.num_rows), threads), self._empty(0))

    def batches(self, rows: int = ROWS_AT_ONCE, threads: int = 0) -> Generator[Matrix, None, None]:
        """Yield the vectors of about ``rows`` rows at a time, float32 (rows, dimension).

        Args:
            rows: how many; a batch consists of whole blocks, at least one.
            threads: blocks to read and decode at the same time; 0 means one per CPU core.
        """
        start = 0
        while start < len(self._pieces):
            end = start + 1
            while end < len(self._pieces) and (
                self._first_rows[end + 1] - self._first_rows[start] <= rows
            ):
                end += 1
            yield self._batch(start, end, threads)
            start = end

    def column(self, name: str, threads: int = 0) -> Values:
        """Return one column of all selected rows: a list of strings, or an array (rows, …).

        Raises:
            StorageError: there is no such column.
        """
        places = {(piece.shard, piece.block): piece for piece in self._pieces}

        def read(shard: ShardMap, source: RangeReader, block: int) -> Values:
            piece = places[shard.header.shard, block]
            return block_values(shard, source, block, name)[piece.start : piece.stop]

        with self.snapshot.shard(0).open() as (first, _):
            _, spec = first.spec(name)
        return joined_blocks(spec, [*self.snapshot.each_block(read, places, threads)])

    def values(self, name: str, rows: Sequence[int]) -> list[Any]:
        """Return one column of some rows: the keys, or a column of whole numbers.

        Args:
            name: name of the column.
            rows: numbers of rows in this selection; reads each block with one of them.

        Raises:
            StorageError: there is no such column.
        """
        numbers = np.searchsorted(self._first_rows, rows, side="right") - 1
        offsets = np.asarray(rows, np.intp) - np.asarray(self._first_rows, np.intp)[numbers]
        found = []
        for number, offset in zip(numbers.tolist(), offsets.tolist(), strict=True):
            piece = self._pieces[number]
            found.append(self._block(name, piece.shard, piece.block)[piece.start + offset])
        return found

    def vectors_of(self, rows: Sequence[int], threads: int = 0) -> Matrix:
        """Return the vectors of some rows, float32 (rows, dimension); reads each block once.

        Args:
            rows: numbers of rows in this selection, ascending.
            threads: blocks to read at the same time; 0 means one per CPU core.
        """
        places: dict[tuple[int, int], list[int]] = {}
        for row in rows:
            piece, place = self._place_of(row)
            places.setdefault((piece.shard, piece.block), []).append(place)

        def read(shard: ShardMap, source: RangeReader, block: int) -> Matrix:
            values = np.asarray(block_values(shard, source, block, layout.VECTOR), np.float32)
            return values[places[shard.header.shard, block]]

        return np.concatenate([self._empty(0), *self.snapshot.each_block(read, places, threads)])

    def count(self, key: str) -> int:
        """Return how many of the rows have a key."""
        if not key.startswith(self._prefix) or key not in self.snapshot:
            return 0
        return len(np.atleast_2d(self.snapshot[key]))

    def _place_of(self, row: int) -> tuple[_Piece, int]:
        """Return the piece that a row is in, and the number of the row in its block."""
        number = bisect_left(self._first_rows, row + 1) - 1
        piece = self._pieces[number]
        return piece, piece.start + row - self._first_rows[number]

    def _batch(self, first: int, end: int, threads: int) -> Matrix:
        out = self._empty(self._first_rows[end] - self._first_rows[first])
        pieces = {(piece.shard, piece.block): n for n, piece in enumerate(self._pieces[first:end])}

        def read(shard: ShardMap, source: RangeReader, block: int) -> None:
            number = first + pieces[shard.header.shard, block]
            piece = self._pieces[number]
            start = self._first_rows[number] - self._first_rows[first]
            part = out[start : start + piece.stop - piece.start]
            if len(part) == shard.index.blocks[block].rows:
                shard.vectors_into(source, block, part)
            else:
                values = block_values(shard, source, block, layout.VECTOR)
                part[:] = values[piece.start : piece.stop]

        for _ in self.snapshot.each_block(read, pieces, threads):
            pass
        return out

    def _empty(self, rows: int) -> Matrix:
        return np.empty((rows, self.snapshot.model.dimension), np.float32)

    def _read_block(self, name: str, shard: int, block: int) -> list[Any]:
        def read(shard: ShardMap, source: RangeReader, block: int) -> Values:
            return block_values(shard, source, block, name)

        (values,) = self.snapshot.each_block(read, [(shard, block)], threads=1)
        return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _pieces(snapshot: Snapshot, prefix: str) -> Iterator[_Piece]:
    for shard in range(snapshot.num_shards):
        for block, entry in enumerate(snapshot.shard_map(shard).index.blocks):
            if entry.first.startswith(prefix) and entry.last.startswith(prefix):
                yield _Piece(shard, block, 0, entry.rows)
            elif entry.first < prefix <= entry.last or entry.first.startswith(prefix):
                yield from _within(snapshot, prefix, shard, block)


def _whole(snapshot: Snapshot, places: Iterable[tuple[int, int]]) -> Iterator[_Piece]:
    for shard, block in places:
        yield _Piece(shard, block, 0, snapshot.shard_map(shard).index.blocks[block].rows)


def _within(snapshot: Snapshot, prefix: str, shard: int, block: int) -> Iterator[_Piece]:
    """Yield the rows of a block that only in part has keys with the prefix."""
    (keys,) = snapshot.each_block(ShardMap.keys, [(shard, block)], threads=1)
    start = bisect_left(keys, prefix)
    stop = bisect_left(keys, True, start, key=lambda key: not key.startswith(prefix))
    if start < stop:
        yield _Piece(shard, block, start, stop)
