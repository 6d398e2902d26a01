"""One shard of a snapshot: its file checked against the manifest, its rows read as columns."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.storage import files, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError, ShardHeader
from featureid.storage.manifest import Manifest
from featureid.storage.records import EmbeddingRow, SnapshotInfo
from featureid.storage.row_columns import embedding_rows, row_columns
from featureid.storage.shard import ShardSummary
from featureid.storage.shard_reader import ShardMap


@dataclass(frozen=True, slots=True)
class SnapshotShard:
    """One shard of a snapshot. Small and picklable; a file is open only while a method reads it.

    Every method that reads raises :class:`~featureid.errors.CorruptFileError` where a byte is not
    what was written or the file is not the one that the manifest lists, and
    :class:`~featureid.errors.StorageError` where it cannot be read.

    Attributes:
        file: path or URI of the shard.
        number: its number, from 0.
        info: the snapshot.
        summary: the shard's entry in the manifest.
    """

    file: str
    number: int
    info: SnapshotInfo
    summary: ShardSummary

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.summary.rows

    def columns(self) -> tuple[ColumnSpec, ...]:
        """Return the columns that this version can read, key and vector first; reads the header."""
        with self.open() as (shard, _):
            return known_columns(shard.header)

    def row_keys(self) -> list[str]:
        """Return the image key of every row, in the order of the rows."""
        return list(self.column(layout.KEY))

    def column(self, name: str) -> Values:
        """Return one column: a list of strings, or an array (rows, …); vectors as float32.

        Raises:
            StorageError: there is no such column.
        """
        with self.open() as (shard, source):
            _, spec = shard.spec(name)
            numbers = range(len(shard.index.blocks))
            return joined_blocks(spec, [block_values(shard, source, n, name) for n in numbers])

    def blocks(
        self, columns: Sequence[str] | None = None
    ) -> Generator[dict[str, Values], None, None]:
        """Yield the rows as they are stored, one block of some 1,536 rows at a time.

        Args:
            columns: names of the columns to read; None for all that this version can read.

        Yields:
            column name -> values, as :meth:`column` returns them.

        Raises:
            StorageError: there is no such column.
        """
        with self.open() as (shard, source):
            names = [spec.name for spec in known_columns(shard.header)]
            names = names if columns is None else list(columns)
            for number in range(len(shard.index.blocks)):
                yield {name: block_values(shard, source, number, name) for name in names}

    def rows(self) -> Iterator[EmbeddingRow]:
        """Yield the rows one by one, block by block.

        Raises:
            StorageError: the shard lacks a column of such rows, as one of imported vectors does.
        """
        for block in self.blocks([spec.name for spec in row_columns(self.info.model)]):
            yield from embedding_rows(block)

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[ShardMap, RangeReader]]:
        """Open the file for a ``with`` block, and read its index."""
        with RangeReader(self.file) as source:
            yield self.read_map(source), source

    def read_map(self, source: RangeReader) -> ShardMap:
        """Return header and index of the opened file.

        Raises:
            DamageError: it is damaged, or not the shard that the manifest lists.
            StorageError: it cannot be read.
        """
        shard, model = ShardMap(source), self.info.model
        of_header = {
            "snapshot": self.info.snapshot,
            "shard": self.number,
            "num_shards": self.info.num_shards,
            "model": model.name,
            "model_digest": model.digest,
            "preprocessing_digest": model.preprocessing_digest,
            "dimension": model.dimension,
            "dtype": model.dtype,
            "faces": model.faces,
            "rows": self.summary.rows,
        }
        pairs = {name: (getattr(shard.header, name), value) for name, value in of_header.items()}
        pairs["size"] = source.size, self.summary.bytes
        for name, (found, listed) in pairs.items():
            if found != listed:
                reason = f"{name} is {found!r} here, {listed!r} in the manifest"
                member = shard.index.header
                raise DamageError(shard.file, "the header", member.offset, member.end, reason)
        return shard


def shards_of(folder: str, manifest: Manifest) -> tuple[SnapshotShard, ...]:
    """Return the shards that the manifest of a snapshot's folder lists, in order."""
    return tuple(
        SnapshotShard(files.join(folder, summary.file), number, manifest.info, summary)
        for number, summary in enumerate(manifest.embeddings)
    )


def known_columns(header: ShardHeader) -> tuple[ColumnSpec, ...]:
    """Return the columns of a shard that this version can read."""
    return tuple(spec for spec in header.columns if spec.known)


def block_values(shard: ShardMap, source: RangeReader, block: int, name: str) -> Values:
    """Return one column of one block; vectors as float32, whatever type is stored."""
    if name != layout.VECTOR:
        return shard.values(source, block, name)
    shape = (shard.index.blocks[block].rows, shard.header.dimension)
    matrix: npt.NDArray[np.float32] = np.empty(shape, np.float32)
    shard.vectors_into(source, block, matrix)
    return matrix


def joined_blocks(spec: ColumnSpec, blocks: Sequence[Values]) -> Values:
    """Return one column of several blocks, or of none, as one list or array."""
    if spec.is_text:
        return [value for block in blocks for value in block]
    dtype: np.dtype[Any] = np.dtype(np.float32) if spec.name == layout.VECTOR else spec.dtype
    return np.concatenate([np.empty((0, *spec.shape), dtype), *blocks])
