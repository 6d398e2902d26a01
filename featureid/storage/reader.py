"""Read snapshots: feature IDs, keys, attributes and failures."""

from __future__ import annotations

import contextlib
import os
from collections.abc import (
    Callable,
    Generator,
    ItemsView,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
    ValuesView,
)
from itertools import accumulate, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError, UsageError
from featureid.html_table import html_table
from featureid.parallel import map_in_order
from featureid.storage import arrow, files, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.failure_file import read_failures
from featureid.storage.files import RangeReader
from featureid.storage.manifest import Manifest
from featureid.storage.records import Face, Failure, ModelInfo
from featureid.storage.row_columns import FACE_COLUMNS
from featureid.storage.shard import shard_of
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import find_manifest
from featureid.storage.snapshot_shard import (
    SnapshotShard,
    block_values,
    joined_blocks,
    known_columns,
    shards_of,
)

if TYPE_CHECKING:
    import pandas
    import pyarrow

Vectors = npt.NDArray[np.float32]

_Read = TypeVar("_Read")


def open_snapshot(path: str | os.PathLike[str]) -> Snapshot:
    """Open a complete snapshot for reading.

    Args:
        path: an output folder, meaning its current snapshot, or a snapshot's own folder; a local
            path, or a URI such as ``s3://bucket/out``.

    Raises:
        StorageError: there is no complete snapshot, or it cannot be read.
        CorruptFileError: its manifest is damaged.
    """
    return Snapshot(*find_manifest(os.fspath(path)))


class Snapshot(Mapping[str, Vectors]):
    """A complete snapshot: a mapping from image keys to vectors, and all columns of its rows.

    A key stands for one image. Its value is the image's vector, float32 (dimension,), or, in a
    snapshot of faces, the vectors of its faces in the order of their indexes, (faces, dimension).
    Rows are always in the same order: shard by shard, and sorted by key within a shard. Iteration
    reads block by block, so that snapshots may be larger than memory.

    Every method that reads raises :class:`~featureid.errors.CorruptFileError` where a byte is not
    what was written, and :class:`~featureid.errors.StorageError` where a file cannot be read.

    A snapshot pickles as its folder and manifest. Two are equal if both are the same; vectors are
    not compared.

    Attributes:
        folder: path or URI of the snapshot's folder.
        manifest: the files that it consists of, and its model.
    """

    def __init__(self, folder: str, manifest: Manifest) -> None:
        """Read nothing yet; use :func:`open_snapshot` to find the manifest."""
        self.folder = folder
        self.manifest = manifest
        self._shards = shards_of(folder, manifest)
        self._maps: dict[int, ShardMap] = {}

    def __reduce__(self) -> tuple[type[Snapshot], tuple[str, Manifest]]:
        """Pickle without the indexes that have been read."""
        return type(self), (self.folder, self.manifest)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same snapshot in the same folder."""
        if not isinstance(other, Snapshot):
            return NotImplemented
        return (self.folder, self.manifest) == (other.folder, other.manifest)

    def __hash__(self) -> int:
        """Return a hash of the folder."""
        return hash(self.folder)

    def __repr__(self) -> str:
        """Return a short description."""
        return f"<Snapshot {self.folder}: {self.num_rows} rows of {self.model.name}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        counts = self.manifest.counts
        return html_table(
            [
                ("snapshot", self.folder),
                ("model", self.model.name),
                ("images", f"{counts.images}: {counts.embedded} embedded, {counts.failed} failed"),
                ("rows", self.num_rows),
                ("made", self.manifest.info.created),
            ]
        )

    @property
    def model(self) -> ModelInfo:
        """The model that made the vectors."""
        return self.manifest.info.model

    @property
    def num_rows(self) -> int:
        """Number of rows, one per image or one per face."""
        return self.manifest.rows

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return len(self._shards)

    def shards(self) -> tuple[SnapshotShard, ...]:
        """Return all shards, in order; each can be sent to another process and read there."""
        return self._shards

    def shard(self, number: int) -> SnapshotShard:
        """Return one shard by its number, from 0.

        Raises:
            StorageError: there is no such shard.
        """
        if not 0 <= number < len(self._shards):
            raise StorageError(f"{self.folder} has {len(self._shards)} shards, no shard {number}")
        return self._shards[number]

    def columns(self) -> tuple[ColumnSpec, ...]:
        """Return the columns that this version can read, key and vector first.

        The header of the first shard lists them; all shards have the same.
        """
        with self._shards[0].open() as (shard, _):
            return known_columns(shard.header)

    def has_faces(self) -> bool:
        """Return whether rows are faces, with a ``face_index``; reads the first shard's header."""
        return any(spec.name == layout.FACE_INDEX for spec in self.columns())

    def row_keys(self, threads: int = 0) -> list[str]:
        """Return the image key of every row, parallel to :meth:`vectors`.

        An image with several faces has several rows; iterate over the snapshot for each key once.
        """
        return list(self.column(layout.KEY, threads))

    def vectors(self, threads: int = 0) -> Vectors:
        """Return all vectors as float32 (rows, dimension), whatever type is stored.

        Args:
            threads: blocks to read and decode at the same time; 0 means one per CPU core.
        """
        rows = self._shard_rows(threads)
        first_rows = [0, *accumulate(rows)]
        out: Vectors = np.empty((sum(rows), self.model.dimension), np.float32)

        def read(shard: ShardMap, source: RangeReader, block: int) -> None:
            start = first_rows[shard.header.shard] + shard.first_rows[block]
            shard.vectors_into(source, block, out[start : start + shard.index.blocks[block].rows])

        for _ in self.each_block(read, threads=threads):
            pass
        return out

    def batches(
        self, rows: int, threads: int = 0
    ) -> Generator[tuple[list[str], Vectors], None, None]:
        """Yield keys and vectors of ``rows`` rows at a time; the last batch may have fewer.

        Memory holds one batch and, for each thread, two blocks of some 1,536 rows.

        Raises:
            StorageError: ``rows`` is not positive.
        """
        if rows < 1:
            raise StorageError(f"A batch of {rows} rows cannot be made; give 1 or more")
        left = sum(self._shard_rows(threads))
        keys: list[str] = []
        batch = np.empty((min(rows, left), self.model.dimension), np.float32)
        for block in self.blocks([layout.KEY, layout.VECTOR], threads):
            block_keys, matrix = block[layout.KEY], np.asarray(block[layout.VECTOR])
            start = 0
            while start < len(matrix):
                end = min(len(matrix), start + len(batch) - len(keys))
                batch[len(keys) : len(keys) + end - start] = matrix[start:end]
                keys += block_keys[start:end]
                start = end
                if len(keys) == len(batch):
                    yield keys, batch
                    left -= len(keys)
                    keys, batch = [], np.empty((min(rows, left), batch.shape[1]), np.float32)

    def blocks(
        self, columns: Sequence[str] | None = None, threads: int = 0
    ) -> Generator[dict[str, Values], None, None]:
        """Yield the rows as they are stored, one block of some 1,536 rows at a time.

        Args:
            columns: names of the columns to read; None for all that this version can read.
            threads: blocks to read ahead at the same time; 0 means one per CPU core.

        Yields:
            column name -> values: a list of strings, or an array (rows, …); vectors always as
            float32.

        Raises:
            StorageError: there is no such column.
        """
        names = [spec.name for spec in self.columns()] if columns is None else list(columns)

        def read(shard: ShardMap, source: RangeReader, block: int) -> dict[str, Values]:
            return {name: block_values(shard, source, block, name) for name in names}

        return self.each_block(read, threads=threads)

    def column(self, name: str, threads: int = 0) -> Values:
        """Return one column of all rows: a list of strings, or an array (rows, …).

        Raises:
            StorageError: there is no such column.
        """
        with self._shards[0].open() as (shard, _):
            _, spec = shard.spec(name)
        return joined_blocks(spec, [block[name] for block in self.blocks([name], threads)])

    def to_arrow(self, threads: int = 0) -> pyarrow.Table:
        """Return all columns as an Arrow table; its metadata name the snapshot and the model.

        A vector is a fixed-size list of float32, the SHA-256 is binary.

        Raises:
            UsageError: pyarrow is not installed.
        """
        return arrow.to_table(self.columns(), self.manifest.info, self.blocks(threads=threads))

    def to_pandas(self, threads: int = 0) -> pandas.DataFrame:
        """Return all columns as a data frame; each vector is an array in its cell.

        Raises:
            UsageError: pandas or pyarrow is not installed.
        """
        return arrow.to_pandas(self.to_arrow(threads))

    def failures(self) -> Iterator[Failure]:
        """Yield the images without a feature ID, by key within each file."""
        for summary in self.manifest.failures:
            yield from read_failures(files.join(self.folder, summary.file), summary)

    def uri(self, key: str, root: str | os.PathLike[str] | None = None) -> str:
        """Return the absolute path or URI of an image; nothing is looked up there.

        Args:
            key: an image key.
            root: the folder, local or a URI, that the images were moved to; it replaces
                ``manifest.info.locations.root``, the folder that relative keys start in.

        Raises:
            UsageError: the snapshot does not record where the image is, or the image is not below
                the root that another one would replace.
        """
        return self.manifest.info.locations.uri(key, root)

    def locate(self, key: str, root: str | os.PathLike[str] | None = None) -> str | None:
        """Return what :meth:`uri` does, or None if the snapshot does not record the place."""
        try:
            return self.uri(key, root)
        except UsageError:
            return None

    def faces(self, key: str) -> list[tuple[Face, Vectors]]:
        """Return the faces of one image, by index, each with its vector, float32 (dimension,).

        Raises:
            KeyError: no row has this key; the error holds it.
            StorageError: the rows are not faces, or have no boxes.
        """
        missing = [n for n in FACE_COLUMNS if n not in {spec.name for spec in self.columns()}]
        if missing:
            raise StorageError(
                f"{self.folder} has no faces: its rows, of the model {self.model.name!r}, lack the "
                f"columns {', '.join(missing)}"
            )
        with self._find(key) as (shard, source, block, rows):
            columns = [shard.values(source, block, name)[rows] for name in FACE_COLUMNS]
            vectors = np.array(shard.values(source, block, layout.VECTOR)[rows], np.float32)
        faces = [Face.from_values(*values) for values in zip(*columns, strict=True)]
        return list(zip(faces, vectors, strict=True))

    def __len__(self) -> int:
        """Return the number of images with rows, that is, of keys."""
        return sum(summary.keys for summary in self.manifest.embeddings)

    def __iter__(self) -> Iterator[str]:
        """Yield each key once, reading block by block."""
        for block in self.blocks([layout.KEY]):
            # All rows of a key lie in one block.
            yield from dict.fromkeys(block[layout.KEY])

    def __getitem__(self, key: str) -> Vectors:
        """Return the vector of an image, or the vectors of its faces; reads one block.

        Returns:
            float32 (dimension,), or in a snapshot of faces (faces, dimension), by face index.

        Raises:
            KeyError: no row has this key; the error holds it.
        """
        with self._find(key) as (shard, source, block, rows):
            # A copy, so that a row does not keep its whole block in memory.
            vectors = np.array(shard.values(source, block, layout.VECTOR)[rows], np.float32)
            return vectors if _of_faces(shard) else vectors[0]

    def __contains__(self, key: object) -> bool:
        """Return whether a row has this key."""
        if not isinstance(key, str):
            return False
        try:
            with self._find(key):
                return True
        except KeyError:
            return False

    def values(self) -> ValuesView[Vectors]:
        """Return a view of the values, parallel to the keys; iteration reads block by block."""
        return _Values(self)

    def items(self) -> ItemsView[str, Vectors]:
        """Return a view of keys with their values; iteration reads block by block."""
        return _Items(self)

    def _rows_by_key(self) -> Iterator[tuple[str, Vectors]]:
        """Yield each key with its value; all rows of a key lie in one block."""

        def read(
            shard: ShardMap, source: RangeReader, block: int
        ) -> tuple[list[str], Vectors, bool]:
            matrix = np.asarray(block_values(shard, source, block, layout.VECTOR))
            return shard.keys(source, block), matrix, _of_faces(shard)

        for keys, matrix, of_faces in self.each_block(read):
            start = 0
            for key, rows in groupby(keys):
                end = start + sum(1 for _ in rows)
                vectors = matrix[start:end].copy()
                yield key, vectors if of_faces else vectors[0]
                start = end

    @contextlib.contextmanager
    def _find(self, key: str) -> Iterator[tuple[ShardMap, RangeReader, int, slice]]:
        """Open the shard of a key: its index, its file, the block with the key, and the rows there.

        Raises:
            KeyError: no row has this key; the error holds it.
        """
        try:
            number = shard_of(key, self.num_shards)
        except StorageError:
            raise KeyError(key) from None  # not valid Unicode, so never stored
        with self._open(number) as source:
            shard = self._map(number, source)
            block = shard.find_block(key)
            keys = [] if block is None else shard.keys(source, block)
            if block is None or key not in keys:
                raise KeyError(key)
            start = keys.index(key)
            yield shard, source, block, slice(start, start + keys.count(key))

    def each_block(
        self,
        read: Callable[[ShardMap, RangeReader, int], _Read],
        places: Iterable[tuple[int, int]] | None = None,
        threads: int = 0,
    ) -> Generator[_Read, None, None]:
        """Yield what ``read`` returns for every block, in order; threads work ahead.

        Args:
            read: called with the index of a shard, its opened file and the number of a block.
            places: pairs of shard and block, those of a shard together; None for all blocks.
            threads: blocks to read at the same time; 0 means one per CPU core.
        """
        opened: dict[int, RangeReader] = {}
        due: dict[int, int] = {}  # places of each opened shard that have no result yet

        def each_place() -> Iterator[tuple[int, int]]:
            by_shard = groupby(self._all_places() if places is None else places, itemgetter(0))
            for number, of_shard in by_shard:
                blocks = [block for _, block in of_shard]
                opened[number], due[number] = self._open(number), len(blocks)
                self._map(number, opened[number])
                yield from ((number, block) for block in blocks)

        def work(place: tuple[int, int]) -> _Read:
            number, block = place
            return read(self._maps[number], opened[number], block)

        try:
            with contextlib.closing(map_in_order(work, each_place(), threads)) as results:
                for (number, _), result in results:
                    due[number] -= 1
                    if not due[number]:
                        opened.pop(number).close()
                    yield result
        finally:
            for source in opened.values():
                source.close()

    def shard_map(self, number: int) -> ShardMap:
        """Return header and index of a shard, which are read once."""
        if number not in self._maps:
            with self._open(number) as source:
                self._map(number, source)
        return self._maps[number]

    def _all_places(self) -> Iterator[tuple[int, int]]:
        for number in range(self.num_shards):
            for block in range(len(self.shard_map(number).index.blocks)):
                yield number, block

    def _open(self, number: int) -> RangeReader:
        return RangeReader(self._shards[number].file)

    def _map(self, number: int, source: RangeReader) -> ShardMap:
        """Return header and index of an opened shard; they are kept for later reads."""
        if number not in self._maps:
            self._maps[number] = self._shards[number].read_map(source)
        return self._maps[number]

    def _shard_rows(self, threads: int) -> list[int]:
        """Return the rows of each shard, from the shards themselves and not from the manifest."""

        def rows(number: int) -> int:
            return self.shard_map(number).header.rows

        return [count for _, count in map_in_order(rows, range(self.num_shards), threads)]


class _Values(ValuesView[Vectors]):
    """The values of a snapshot; arrays are compared as a whole."""

    _mapping: Snapshot

    def __iter__(self) -> Iterator[Vectors]:
        return (vectors for _, vectors in self._mapping._rows_by_key())

    def __contains__(self, value: object) -> bool:
        wanted = np.asarray(value)
        return any(np.array_equal(vectors, wanted) for vectors in self)


class _Items(ItemsView[str, Vectors]):
    """The items of a snapshot; arrays are compared as a whole."""

    _mapping: Snapshot

    def __iter__(self) -> Iterator[tuple[str, Vectors]]:
        return self._mapping._rows_by_key()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2 or item[0] not in self._mapping:
            return False
        return np.array_equal(self._mapping[item[0]], item[1])


def _of_faces(shard: ShardMap) -> bool:
    """Return whether a key may have several rows, as the faces of an image."""
    return shard.header.column(layout.FACE_INDEX) is not None
