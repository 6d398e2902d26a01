"""Carry rows over from one snapshot to the next, whole columns at a time and bit for bit."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import layout
from featureid.storage.columns import Values, take_rows
from featureid.storage.files import RangeReader
from featureid.storage.reader import Snapshot
from featureid.storage.records import EmbeddingRow, ModelInfo, SnapshotInfo
from featureid.storage.row_columns import row_columns
from featureid.storage.shard import (
    ShardSummary,
    cut_blocks,
    own_rows,
    row_blocks,
    shard_of,
    write_blocks,
)
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot_shard import SnapshotShard

Columns = dict[str, Values]
Mask = npt.NDArray[np.bool_]

VERSION_COLUMN = "source_version"
_DIGEST_COLUMN = "sha256"


@dataclass(frozen=True)
class RowIndex:
    """Keys, source versions and digests of a shard's rows, which show whether images have changed.

    Attributes:
        keys: of every row, sorted; a key has several rows where an image has several faces.
        versions: the source version of every row.
        digests: (rows, 32) uint8, the SHA-256 of every row's image; None if not needed.
    """

    keys: Sequence[str] = ()
    versions: Sequence[str] = ()
    digests: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class CarriedRows:
    """What a shard takes over from the previous snapshot.

    Attributes:
        masks: number of a previous shard -> (rows,) bool, the rows to take as they are.
        versions: key -> source version, of images whose rows are taken with that version.
    """

    masks: Mapping[int, Mask] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def check_can_carry(previous: Snapshot, model: ModelInfo) -> None:
    """Check that a snapshot's rows have the columns that this version writes, so that none is lost.

    Raises:
        StorageError: they do not, or the first shard cannot be read.
    """
    with naming_way_out(), previous.shard(0).open() as (shard, _):
        _check_columns(shard, model)


@contextlib.contextmanager
def naming_way_out() -> Iterator[None]:
    """Let an error about a damaged previous snapshot say how to do without it."""
    try:
        yield
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}. To embed every image again, add `no_previous`") from error


def read_row_index(shard: SnapshotShard, *, digests: bool, imported: bool = False) -> RowIndex:
    """Return the keys, source versions and, if asked for, digests of a shard's rows.

    Args:
        shard: a shard of the previous snapshot.
        digests: whether to read the SHA-256 column, too.
        imported: whether the rows may be imported ones, which have no source versions.

    Raises:
        StorageError: the shard is damaged or cannot be read.
    """
    keys: list[str] = []
    versions: list[str] = []
    found = [np.zeros((0, 32), np.uint8)]
    with naming_way_out():
        columns = [layout.KEY, VERSION_COLUMN, *[_DIGEST_COLUMN] * digests]
        if imported:
            known = {spec.name for spec in shard.columns()}
            columns = [name for name in columns if name in known]
        for block in shard.blocks(columns):
            keys += block[layout.KEY]
            versions += block.get(VERSION_COLUMN, [""] * len(block[layout.KEY]))
            if digests:
                found.append(np.asarray(block[_DIGEST_COLUMN]))
    return RowIndex(keys, versions, np.concatenate(found) if digests else None)


def carried_blocks(
    previous: SnapshotShard, mask: Mask | None, versions: Mapping[str, str], home: tuple[int, int]
) -> Iterator[Columns]:
    """Yield the rows to carry over from a shard, block by block, every column.

    Args:
        previous: the shard to take rows from.
        mask: (rows,) bool, the rows to take as they are; None for none.
        versions: key -> its new source version: rows to take as well, with that version.
        home: (shard, number of shards): only rows that belong there are taken.

    Raises:
        StorageError: the shard is damaged, cannot be read, or has not as many rows as ``mask``.
    """
    if mask is not None and len(mask) != previous.num_rows:
        raise StorageError(f"{previous.file} has {previous.num_rows} rows, not {len(mask)}")
    number, num_shards = home
    with naming_way_out(), previous.open() as (shard, source):
        _check_columns(shard, previous.info.model)
        for position, block in enumerate(shard.index.blocks):
            start = shard.first_rows[position]
            end = start + block.rows
            wanted = np.zeros(block.rows, np.bool_) if mask is None else mask[start:end].copy()
            if not versions and not wanted.any():
                continue
            keys = shard.keys(source, position)
            for row, key in enumerate(keys) if versions else ():
                wanted[row] |= key in versions
            if num_shards != previous.info.num_shards:
                for row in np.flatnonzero(wanted).tolist():
                    wanted[row] = shard_of(keys[row], num_shards) == number
            if wanted.any():
                yield _taken(shard, source, position, np.flatnonzero(wanted), versions)


def _check_columns(shard: ShardMap, model: ModelInfo) -> None:
    columns = row_columns(model)
    if shard.header.columns != columns:
        names = [", ".join(spec.name for spec in c) for c in (shard.header.columns, columns)]
        raise StorageError(
            f"{shard.file} has the columns {names[0]}; this version writes {names[1]}, so that "
            "rows cannot be carried over. Give `re_embed=True`"
        )


def _taken(
    shard: ShardMap,
    source: RangeReader,
    block: int,
    rows: npt.NDArray[np.intp],
    versions: Mapping[str, str],
) -> Columns:
    """Return the given rows of a block, every column, with the new source versions."""
    columns = {
        spec.name: take_rows(shard.values(source, block, spec.name), rows)
        for spec in shard.header.columns
    }
    if versions:
        pairs = zip(columns[layout.KEY], columns[VERSION_COLUMN], strict=True)
        columns[VERSION_COLUMN] = [versions.get(key, version) for key, version in pairs]
    return columns


def shards_between(number: int, here: int, there: int) -> range:
    """Return which of ``there`` shards can hold keys of shard ``number`` of ``here``.

    A key is in shard ``hash mod n``, so the numbers of its two shards are equal modulo the greatest
    common divisor of ``here`` and ``there``.
    """
    step = math.gcd(here, there)
    return range(number % step, there, step)


def write_refreshed_shard(
    folder: str,
    info: SnapshotInfo,
    shard: int,
    rows: Iterable[EmbeddingRow],
    previous: Snapshot,
    carried: CarriedRows,
) -> ShardSummary:
    """Write one shard of new rows and carried ones, whole or not at all; return its summary.

    Args:
        folder: the snapshot's folder.
        info: the snapshot.
        shard: number of the shard.
        rows: the new rows, in any order.
        previous: the previous snapshot.
        carried: what to take over from it.

    Raises:
        StorageError: as in :func:`featureid.storage.shard.write_shard`, or the previous snapshot is
            damaged or cannot be read.
    """
    versions_of: dict[int, dict[str, str]] = {number: {} for number in carried.masks}
    for key, version in carried.versions.items():
        versions_of.setdefault(shard_of(key, previous.num_shards), {})[key] = version
    ordered = own_rows(rows, info, shard)
    parts = list(row_blocks(ordered, info, max(1, len(ordered))))
    for number, versions in sorted(versions_of.items()):
        mask = carried.masks.get(number)
        home = shard, info.num_shards
        parts += carried_blocks(previous.shard(number), mask, versions, home)
    total = sum(len(part[layout.KEY]) for part in parts)
    return write_blocks(folder, info, shard, total, merged_blocks(parts, layout.BLOCK_ROWS))


def merged_blocks(parts: Sequence[Columns], block_rows: int) -> Iterator[Columns]:
    """Merge rows by key and cut them into blocks, one block of copies in memory at a time.

    Args:
        parts: rows as columns; all rows of a key are in one part, in their order.
        block_rows: rows per block, as for :func:`~featureid.storage.shard.cut_blocks`.
    """
    if not parts:
        return
    columns = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    keys = columns[layout.KEY]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    for start, end in cut_blocks([keys[row] for row in order], block_rows):
        rows = np.array(order[start:end])
        yield {name: take_rows(values, rows) for name, values in columns.items()}


def _joined(parts: Sequence[Values]) -> Values:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([np.asarray(part) for part in parts])
    return [value for part in parts for value in part]
