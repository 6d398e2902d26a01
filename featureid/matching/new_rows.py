"""Which rows of a snapshot are new since an older one: another key, another face, or changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.matching.parts import Part, RowRange
from featureid.storage import layout
from featureid.storage.carry import shards_between
from featureid.storage.reader import Snapshot
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot_shard import block_values

Matrix = npt.NDArray[np.float32]
#: Image key and face index; 0 for a whole image.
Name = tuple[str, int]


def new_rows(snapshot: Snapshot, part: Part, before: Snapshot) -> list[RowRange]:
    """Return the rows of a part that an older snapshot does not have, with the same vector.

    Of the older snapshot, only blocks with keys in the same range are read.

    Args:
        snapshot: the snapshot.
        part: ranges of whole blocks.
        before: the older one, of the same model.

    Returns:
        Ranges with ``rows``; those without a new row are left out.
    """
    found = []
    for range_ in part:
        fresh = _new_in(snapshot, range_, before)
        if len(fresh):
            found.append(replace(range_, rows=fresh))
    return found


def _new_in(snapshot: Snapshot, range_: RowRange, before: Snapshot) -> npt.NDArray[np.int32]:
    places, starts, start = [], [], 0
    blocks = snapshot.shard_map(range_.shard).index.blocks
    for number, entry in enumerate(blocks):
        if range_.start <= start < range_.stop:
            places.append((range_.shard, number))
            starts.append(start)
        start += entry.rows
    if not places:
        return np.empty(0, np.int32)
    first, last = blocks[places[0][1]].first, blocks[places[-1][1]].last
    known, old = _rows_between(before, range_.shard, snapshot.num_shards, first, last)
    fresh = [np.empty(0, np.int32)]
    for start, (names, vectors) in zip(starts, _read(snapshot, places), strict=True):
        there = np.array([known.get(name, -1) for name in names], np.intp)
        same = there >= 0
        same[same] = (vectors[same] == old[there[same]]).all(axis=1)
        fresh.append((start + np.flatnonzero(~same)).astype(np.int32))
    return np.concatenate(fresh)


def _rows_between(
    before: Snapshot, shard: int, num_shards: int, first: str, last: str
) -> tuple[dict[Name, int], Matrix]:
    """Return the rows of a snapshot that may be in a shard of another one, between two keys.

    Returns:
        Name of a row -> its number in the matrix of their vectors, (rows, dimension).
    """
    places = [
        (number, block)
        for number in shards_between(shard, num_shards, before.num_shards)
        for block, entry in enumerate(before.shard_map(number).index.blocks)
        if entry.first <= last and first <= entry.last
    ]
    names: list[Name] = []
    matrices = [np.empty((0, before.model.dimension), np.float32)]
    for some, vectors in _read(before, places):
        names += some
        matrices.append(vectors)
    return {name: row for row, name in enumerate(names)}, np.concatenate(matrices)


def _read(snapshot: Snapshot, places: list[tuple[int, int]]) -> Iterator[tuple[list[Name], Matrix]]:
    """Yield names and vectors of each of some blocks."""

    def read(shard: ShardMap, source: Any, block: int) -> tuple[list[Name], Matrix]:
        keys = shard.keys(source, block)
        faces = [0] * len(keys)
        if shard.header.column(layout.FACE_INDEX) is not None:
            faces = np.asarray(shard.values(source, block, layout.FACE_INDEX)).tolist()
        vectors = np.asarray(block_values(shard, source, block, layout.VECTOR), np.float32)
        return list(zip(keys, faces, strict=True)), vectors

    yield from snapshot.each_block(read, places)
