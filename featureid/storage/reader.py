"""Reading snapshots: feature IDs, keys, attributes and failures."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import files, layout
from featureid.storage.columns import Values
from featureid.storage.files import RangeReader
from featureid.storage.layout import DamageError
from featureid.storage.manifest import FileSummary, Manifest
from featureid.storage.records import Face, Failure, ModelInfo, SnapshotInfo
from featureid.storage.shard import FACE_COLUMNS, ShardSummary, shard_of
from featureid.storage.shard_reader import ShardMap
from featureid.storage.snapshot import find_snapshot, read_manifest

_MAX_FAILURE_LINE = 1 << 20


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

    def keys(self) -> list[str]:
        """Return the image key of every row."""
        return list(self.attributes(layout.KEY))

    def vectors(self) -> npt.NDArray[np.float32]:
        """Return all vectors as float32 (rows, dimension), whatever type is stored."""
        shape = (self._backed_rows(), self.model.dimension)
        out: npt.NDArray[np.float32] = np.empty(shape, np.float32)
        start = 0
        for shard, source, block in self._blocks():
            rows = shard.index.blocks[block].rows
            shard.vectors_into(source, block, out[start : start + rows])
            start += rows
        return out

    def batches(self, rows: int) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        """Yield keys and vectors of up to ``rows`` rows at a time, holding no more than that.

        Raises:
            StorageError: ``rows`` is not positive.
        """
        if rows < 1:
            raise StorageError(f"A batch of {rows} rows cannot be made; give 1 or more")
        keys: list[str] = []
        parts: list[npt.NDArray[np.float32]] = []
        for shard, source, block in self._blocks():
            matrix = np.empty((shard.index.blocks[block].rows, self.model.dimension), np.float32)
            shard.vectors_into(source, block, matrix)
            keys += shard.keys(source, block)
            parts.append(matrix)
            while len(keys) >= rows:
                batch = np.concatenate(parts) if len(parts) > 1 else parts[0]
                yield keys[:rows], batch[:rows]
                keys, parts = keys[rows:], [batch[rows:]]
        if keys:
            yield keys, np.concatenate(parts)

    def attributes(self, name: str) -> Values:
        """Return one column of all rows: a list of texts, or an array (rows, *shape).

        Raises:
            StorageError: the snapshot has no such column.
        """
        parts: list[Values] = []
        text = True
        for number in range(self.manifest.info.num_shards):
            with self._source(number) as source:
                shard = self._map(number, source)
                text = shard.spec(name)[1].is_text
                parts += [
                    shard.values(source, block, name) for block in range(len(shard.index.blocks))
                ]
        if text:
            return [value for part in parts for value in part]
        spec = self._maps[0].spec(name)[1]
        return np.concatenate([np.empty((0, *spec.shape), spec.dtype), *parts])

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

    def _blocks(self) -> Iterator[tuple[ShardMap, RangeReader, int]]:
        for number in range(self.manifest.info.num_shards):
            with self._source(number) as source:
                shard = self._map(number, source)
                for block in range(len(shard.index.blocks)):
                    yield shard, source, block

    def _source(self, number: int) -> RangeReader:
        return RangeReader(files.join(self.folder, self.manifest.embeddings[number].file))

    def _map(self, number: int, source: RangeReader) -> ShardMap:
        if number not in self._maps:
            shard = ShardMap(source)
            summary = self.manifest.embeddings[number]
            check_belongs(shard, source.size, self.manifest.info, number, summary)
            self._maps[number] = shard
        return self._maps[number]

    def _backed_rows(self) -> int:
        """Return the number of rows, from the shards themselves and not from the manifest."""
        for number in range(self.manifest.info.num_shards):
            if number not in self._maps:
                with self._source(number) as source:
                    self._map(number, source)
        return sum(shard.header.rows for shard in self._maps.values())


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
