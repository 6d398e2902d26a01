"""Reading snapshots: feature IDs, keys, attributes and failures."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.parallel import map_in_order
from featureid.storage import arrow, files, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError
from featureid.storage.manifest import FileSummary, Manifest
from featureid.storage.records import Face, Failure, ModelInfo, SnapshotInfo
from featureid.storage.shard import FACE_COLUMNS, ShardSummary, shard_of
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import find_snapshot, read_manifest

if TYPE_CHECKING:
    import pandas
    import pyarrow

_MAX_FAILURE_LINE = 1 << 20

_Read = TypeVar("_Read")


def open_snapshot(path: str) -> Snapshot:
    """Open a complete snapshot for reading.

    Args:
        path: an output folder, meaning its current snapshot, or a snapshot's own folder; local,
            ``s3://`` or ``gs://``.

    Raises:
        StorageError: there is no complete snapshot, or it cannot be read.
        CorruptFileError: its manifest is damaged.
    """
    folder = find_snapshot(path)
    return Snapshot(folder, read_manifest(folder))


class Snapshot:
    """A complete snapshot. Rows come shard by shard and, in each, by key: the same order always.

    Every method that reads raises :class:`~featureid.errors.CorruptFileError` where a byte is not
    what was written, and :class:`~featureid.errors.StorageError` where a file cannot be read.

    Attributes:
        folder: where it lies.
        manifest: what it consists of.
    """

    def __init__(self, folder: str, manifest: Manifest) -> None:
        """Keep place and manifest; :func:`open_snapshot` is how to get here."""
        self.folder = folder
        self.manifest = manifest
        self._maps: dict[int, ShardMap] = {}

    @property
    def model(self) -> ModelInfo:
        """The model that made the vectors."""
        return self.manifest.info.model

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.manifest.rows

    def __repr__(self) -> str:
        """Return a short description."""
        return f"<Snapshot {self.folder}: {len(self)} rows of {self.model.name}>"

    @property
    def columns(self) -> tuple[ColumnSpec, ...]:
        """The columns that every row has and that this version can read, key and vector first."""
        with self._source(0) as source:
            return tuple(spec for spec in self._map(0, source).header.columns if spec.known)

    def keys(self, threads: int = 0) -> list[str]:
        """Return the image key of every row."""
        return list(self.attributes(layout.KEY, threads))

    def vectors(self, threads: int = 0) -> npt.NDArray[np.float32]:
        """Return all vectors as float32 (rows, dimension), whatever type is stored.

        Args:
            threads: blocks that are read and decoded at the same time; 0 means one a CPU core.
        """
        rows = self._shard_rows(threads)
        first_rows = [0, *accumulate(rows)]
        out: npt.NDArray[np.float32] = np.empty((sum(rows), self.model.dimension), np.float32)

        def read(shard: ShardMap, source: RangeReader, block: int) -> None:
            start = first_rows[shard.header.shard] + shard.first_rows[block]
            shard.vectors_into(source, block, out[start : start + shard.index.blocks[block].rows])

        for _ in self._each_block(read, threads):
            pass
        return out

    def batches(
        self, rows: int, threads: int = 0
    ) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
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
    ) -> Iterator[dict[str, Values]]:
        """Yield the rows block by block as they are stored, some 1,536 at a time.

        Args:
            columns: the names of those to read; None means all that this version can read.
            threads: blocks that are read ahead at the same time; 0 means one a CPU core.

        Yields:
            column name -> values: a list of texts, or an array (rows, *shape); vectors always as
            float32.

        Raises:
            StorageError: the snapshot has no such column.
        """
        names = [spec.name for spec in self.columns] if columns is None else list(columns)

        def read(shard: ShardMap, source: RangeReader, block: int) -> dict[str, Values]:
            return {name: _block_values(shard, source, block, name) for name in names}

        return self._each_block(read, threads)

    def attributes(self, name: str, threads: int = 0) -> Values:
        """Return one column of all rows: a list of texts, or an array (rows, *shape).

        Raises:
            StorageError: the snapshot has no such column.
        """
        with self._source(0) as source:
            _, spec = self._map(0, source).spec(name)
        parts = [block[name] for block in self.blocks([name], threads)]
        if spec.is_text:
            return [value for part in parts for value in part]
        dtype = np.dtype(np.float32) if name == layout.VECTOR else spec.dtype
        return np.concatenate([np.empty((0, *spec.shape), dtype), *parts])

    def to_arrow(self, threads: int = 0) -> pyarrow.Table:
        """Return all columns as an Arrow table, its metadata naming the model.

        A vector is a fixed-size list of float32, the SHA-256 is binary.

        Raises:
            UsageError: pyarrow is not installed.
        """
        return arrow.to_table(self.columns, self.model, self.blocks(threads=threads))

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

    def __getitem__(self, key: str) -> npt.NDArray[np.float32]:
        """Return the vector of one image, float32 (dimension,), reading the index and one block.

        Raises:
            KeyError: no row has this key; the error holds it.
            StorageError: several faces of the image have rows; :meth:`faces` returns them all.
        """
        (vectors,) = self._rows_of(key, layout.VECTOR)
        if len(vectors) > 1:
            raise StorageError(f"{key!r} has {len(vectors)} faces; faces({key!r}) gives them all")
        vector: npt.NDArray[np.float32] = _as_float32(vectors)[0]
        return vector

    def faces(self, key: str) -> list[tuple[Face, npt.NDArray[np.float32]]]:
        """Return the faces of one image, by index, each with its vector, float32 (dimension,).

        Raises:
            KeyError: no row has this key; the error holds it.
            StorageError: the rows are of a model of whole images.
        """
        if not self.model.faces:
            raise StorageError(
                f"{self.folder} has no faces: {self.model.name!r} takes whole images"
            )
        vectors, *columns = self._rows_of(key, layout.VECTOR, *FACE_COLUMNS)
        faces = [Face.from_values(*values) for values in zip(*columns, strict=True)]
        return list(zip(faces, _as_float32(vectors), strict=True))

    def __contains__(self, key: object) -> bool:
        """Tell whether a row has this key."""
        try:
            return isinstance(key, str) and self._rows_of(key) == []
        except KeyError:
            return False

    def _rows_of(self, key: str, *names: str) -> list[Values]:
        """Return the named columns of the rows of one key; KeyError if there are none."""
        try:
            number = shard_of(key, self.manifest.info.num_shards)
        except StorageError:
            raise KeyError(key) from None  # not valid Unicode, so never stored
        with self._source(number) as source:
            shard = self._map(number, source)
            block = shard.find_block(key)
            keys = [] if block is None else shard.keys(source, block)
            if block is None or key not in keys:
                raise KeyError(key)
            start = keys.index(key)
            end = start + keys.count(key)
            return [shard.values(source, block, name)[start:end] for name in names]

    def _each_block(
        self, read: Callable[[ShardMap, RangeReader, int], _Read], threads: int
    ) -> Iterator[_Read]:
        """Yield what ``read`` makes of every block, in order, with threads that work ahead."""
        opened: dict[int, RangeReader] = {}

        def blocks() -> Iterator[tuple[int, int]]:
            for number in range(self.manifest.info.num_shards):
                opened[number] = self._source(number)
                count = len(self._map(number, opened[number]).index.blocks)
                if not count:
                    opened.pop(number).close()
                yield from ((number, block) for block in range(count))

        def work(place: tuple[int, int]) -> _Read:
            number, block = place
            return read(self._maps[number], opened[number], block)

        try:
            with contextlib.closing(map_in_order(work, blocks(), threads)) as results:
                for (number, block), result in results:
                    if block + 1 == len(self._maps[number].index.blocks):
                        opened.pop(number).close()
                    yield result
        finally:
            for source in opened.values():
                source.close()

    def _source(self, number: int) -> RangeReader:
        return RangeReader(files.join(self.folder, self.manifest.embeddings[number].file))

    def _map(self, number: int, source: RangeReader) -> ShardMap:
        if number not in self._maps:
            shard = ShardMap(source)
            summary = self.manifest.embeddings[number]
            check_belongs(shard, source.size, self.manifest.info, number, summary)
            self._maps[number] = shard
        return self._maps[number]

    def _shard_rows(self, threads: int) -> list[int]:
        """Return the rows of each shard, from the shards themselves and not from the manifest."""

        def rows(number: int) -> int:
            if number not in self._maps:
                with self._source(number) as source:
                    self._map(number, source)
            return self._maps[number].header.rows

        numbers = range(self.manifest.info.num_shards)
        return [count for _, count in map_in_order(rows, numbers, threads)]


def _block_values(shard: ShardMap, source: RangeReader, block: int, name: str) -> Values:
    if name != layout.VECTOR:
        return shard.values(source, block, name)
    shape = (shard.index.blocks[block].rows, shard.header.dimension)
    matrix: npt.NDArray[np.float32] = np.empty(shape, np.float32)
    shard.vectors_into(source, block, matrix)
    return matrix


def _as_float32(vectors: Values) -> npt.NDArray[np.float32]:
    """Return a copy, so that a row does not keep its whole block in memory."""
    return np.array(vectors, np.float32)


def check_belongs(
    shard: ShardMap, size: int, info: SnapshotInfo, number: int, summary: ShardSummary
) -> None:
    """Check that a shard is the one that the manifest lists.

    Raises:
        DamageError: it is another; the message names the difference.
    """
    header, model = shard.header, info.model
    wanted: dict[str, Any] = {
        "snapshot": info.snapshot,
        "shard": number,
        "num_shards": info.num_shards,
        "model": model.name,
        "model_digest": model.digest,
        "preprocessing_digest": model.preprocessing_digest,
        "dimension": model.dimension,
        "dtype": model.dtype,
        "faces": model.faces,
        "rows": summary.rows,
    }
    for name, value in wanted.items():
        _same(shard, name, getattr(header, name), value)
    _same(shard, "size", size, summary.bytes)


def _same(shard: ShardMap, name: str, found: object, wanted: object) -> None:
    if found != wanted:
        reason = f"its {name} is {found!r}, the manifest's {wanted!r}"
        member = shard.index.header
        raise DamageError(shard.file, "the header", member.offset, member.end, reason)


def read_failures(place: str, summary: FileSummary) -> Iterator[Failure]:
    """Yield the rows of a failures file.

    Raises:
        CorruptFileError: it is not the file that the manifest lists.
        StorageError: it cannot be read.
    """
    data = files.read_bytes(place)
    if hashlib.sha256(data).hexdigest() != summary.sha256:
        raise DamageError(
            place, "the file", 0, max(1, len(data)), "its SHA-256 is not that of the manifest"
        )
    rows = 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as lines:
            while line := lines.readline(_MAX_FAILURE_LINE):
                rows += 1
                yield Failure.from_json(line)
    except (EOFError, OSError, zlib.error) as error:
        raise CorruptFileError(f"{place} is no gzip file: {error}") from error
    if rows != summary.rows:
        raise CorruptFileError(f"{place} has {rows} failures, the manifest says {summary.rows}")
