"""Carrying rows from one snapshot to the next, whole columns at a time and bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import files, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.manifest import Manifest
from featureid.storage.reader import check_belongs, read_failures
from featureid.storage.records import EmbeddingRow, Failure, ModelInfo, SnapshotInfo
from featureid.storage.shard import (
    ShardSummary,
    own_rows,
    row_blocks,
    row_columns,
    shard_of,
    write_blocks,
)
from featureid.storage.shard_reader import ShardMap

Columns = dict[str, Values]
Mask = npt.NDArray[np.bool_]

VERSION_COLUMN = "source_version"
_DIGEST_COLUMN = "sha256"


@dataclass(frozen=True)
class RowIndex:
    """What tells whether images have changed, row by row.

    Attributes:
        keys: of every row, sorted; a key has several rows where an image has several faces.
        versions: the source version of every row.
        digests: (rows, 32) uint8, the SHA-256 of every row's image; None if it was not asked for.
    """

    keys: list[str]
    versions: list[str]
    digests: npt.NDArray[np.uint8] | None


@dataclass(frozen=True)
class CarriedRows:
    """What a shard takes over from the previous snapshot.

    Attributes:
        masks: number of a previous shard to (rows,) bool, its rows that are taken as they are.
        versions: key to source version, of images whose rows are taken with that version.
    """

    masks: Mapping[int, Mask] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PreviousSnapshot:
    """The snapshot that rows are carried from; small enough to be sent to workers.

    Attributes:
        folder: where it lies.
        manifest: what it consists of.
    """

    folder: str
    manifest: Manifest

    @property
    def num_shards(self) -> int:
        """How many shards it has."""
        return self.manifest.info.num_shards

    def check_columns(self, model: ModelInfo) -> None:
        """Check that its rows have the columns that this version writes, so that none is lost.

        Raises:
            StorageError: they do not, or the first shard cannot be read.
        """
        with self._open(0) as source:
            self._map(0, source, row_columns(model))

    def failures(self) -> Iterator[Failure]:
        """Yield its failures.

        Raises:
            StorageError: a file is damaged or cannot be read.
        """
        for summary in self.manifest.failures:
            yield from read_failures(files.join(self.folder, summary.file), summary)

    def index(self, number: int, *, digests: bool) -> RowIndex:
        """Return what tells whether the images of a shard have changed.

        Args:
            number: the shard.
            digests: whether the SHA-256 are wanted, too.

        Raises:
            StorageError: the shard is damaged or cannot be read.
        """
        index = RowIndex([], [], np.zeros((0, 32), np.uint8) if digests else None)
        with self._open(number) as source:
            shard = self._map(number, source)
            found = []
            for block in range(len(shard.index.blocks)):
                index.keys.extend(shard.keys(source, block))
                index.versions.extend(shard.values(source, block, VERSION_COLUMN))
                if digests:
                    found.append(np.asarray(shard.values(source, block, _DIGEST_COLUMN)))
        return replace(index, digests=np.concatenate(found)) if found else index

    def rows(
        self, number: int, mask: Mask | None, versions: Mapping[str, str], home: tuple[int, int]
    ) -> Iterator[Columns]:
        """Yield the carried rows of a shard, block by block, every column.

        Args:
            number: the shard.
            mask: (rows,) bool, the rows that are taken as they are; None for none.
            versions: key to its new source version: rows that are taken, too, with that one.
            home: (shard, number of shards): only rows that belong there are taken.

        Raises:
            StorageError: the shard is damaged, cannot be read, or has not as many rows as ``mask``.
        """
        shard_number, num_shards = home
        with self._open(number) as source:
            shard = self._map(number, source, row_columns(self.manifest.info.model))
            if mask is not None and len(mask) != shard.header.rows:
                raise StorageError(f"{shard.file} has {shard.header.rows} rows, not {len(mask)}")
            start = 0
            for position, block in enumerate(shard.index.blocks):
                end = start + block.rows
                wanted = np.zeros(block.rows, np.bool_) if mask is None else mask[start:end].copy()
                start = end
                if not versions and not wanted.any():
                    continue
                keys = shard.keys(source, position)
                for row, key in enumerate(keys) if versions else ():
                    wanted[row] |= key in versions
                if num_shards != self.num_shards:
                    for row in np.flatnonzero(wanted).tolist():
                        wanted[row] = shard_of(keys[row], num_shards) == shard_number
                if wanted.any():
                    yield _taken(shard, source, position, np.flatnonzero(wanted), versions)

    def _open(self, number: int) -> RangeReader:
        return RangeReader(files.join(self.folder, self.manifest.embeddings[number].file))

    def _map(
        self, number: int, source: RangeReader, columns: tuple[ColumnSpec, ...] | None = None
    ) -> ShardMap:
        shard = ShardMap(source)
        summary = self.manifest.embeddings[number]
        check_belongs(shard, source.size, self.manifest.info, number, summary)
        if columns is not None and shard.header.columns != columns:
            names = [", ".join(spec.name for spec in c) for c in (shard.header.columns, columns)]
            raise StorageError(
                f"{shard.file} has the columns {names[0]}; this version writes {names[1]}, so that "
                "rows cannot be carried over. Give --re-embed"
            )
        return shard


def _taken(
    shard: ShardMap,
    source: RangeReader,
    block: int,
    rows: npt.NDArray[np.intp],
    versions: Mapping[str, str],
) -> Columns:
    """The given rows of a block, every column, with the new source versions."""
    columns = {
        spec.name: _take(shard.values(source, block, spec.name), rows)
        for spec in shard.header.columns
    }
    if versions:
        pairs = zip(columns[layout.KEY], columns[VERSION_COLUMN], strict=True)
        columns[VERSION_COLUMN] = [versions.get(key, version) for key, version in pairs]
    return columns


def shards_between(number: int, here: int, there: int) -> range:
    """The shards of ``there`` that can hold keys of one of ``here``.

    A key is in shard ``hash mod n``, so that the two numbers of its shards are equal modulo the
    greatest common divisor of how many shards there are.
    """
    step = math.gcd(here, there)
    return range(number % step, there, step)


def write_refreshed_shard(
    folder: str,
    info: SnapshotInfo,
    shard: int,
    rows: Iterable[EmbeddingRow],
    previous: PreviousSnapshot,
    carried: CarriedRows,
) -> ShardSummary:
    """Write one shard of new rows and carried ones, whole or not at all; return its summary.

    Args:
        folder: the snapshot's folder.
        info: the snapshot.
        shard: number of the shard.
        rows: the new rows, in any order.
        previous: the snapshot before.
        carried: what is taken over from it.

    Raises:
        StorageError: as in :func:`featureid.storage.write_shard`, or the previous snapshot is
            damaged or cannot be read.
    """
    by_source: dict[int, dict[str, str]] = {number: {} for number in carried.masks}
    for key, version in carried.versions.items():
        number = shard_of(key, previous.num_shards)
        by_source.setdefault(number, {})[key] = version
    ordered = own_rows(rows, info, shard)
    parts = list(row_blocks(ordered, info, max(1, len(ordered))))
    for number, versions in sorted(by_source.items()):
        mask = carried.masks.get(number)
        parts += previous.rows(number, mask, versions, (shard, info.num_shards))
    total = sum(len(part[layout.KEY]) for part in parts)
    return write_blocks(folder, info, shard, total, merged_blocks(parts, layout.BLOCK_ROWS))


def merged_blocks(parts: Sequence[Columns], block_rows: int) -> Iterator[Columns]:
    """Merge rows by key and cut them into blocks, one block of copies in memory at a time.

    Args:
        parts: rows as columns; all rows of a key lie in one part, in their order.
        block_rows: rows of a block; more where its last key has more rows.
    """
    if not parts:
        return
    columns = {name: _joined([part[name] for part in parts]) for name in parts[0]}
    keys = columns[layout.KEY]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    start = 0
    while start < len(order):
        end = min(start + block_rows, len(order))
        while end < len(order) and keys[order[end]] == keys[order[end - 1]]:
            end += 1
        rows = np.array(order[start:end])
        yield {name: _take(values, rows) for name, values in columns.items()}
        start = end


def _joined(parts: Sequence[Values]) -> Values:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate([np.asarray(part) for part in parts])
    return [value for part in parts for value in part]


def _take(values: Values, rows: npt.NDArray[Any]) -> Values:
    if isinstance(values, np.ndarray):
        taken: npt.NDArray[Any] = values[rows]
        return taken
    return [values[row] for row in rows.tolist()]
