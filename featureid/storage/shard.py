"""Write shards: rows in, ``.fid.gz`` bytes and a summary out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import columns, files, gzip_members, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.layout import Block, Index, Member, ShardHeader
from featureid.storage.records import (
    HASH_BYTES,
    STORED_UNIT_TOLERANCE,
    UNIT_TOLERANCE,
    EmbeddingRow,
    ModelInfo,
    SnapshotInfo,
)
from featureid.storage.row_columns import row_block, row_columns
from featureid.stored_json import Size

_SHARD_BYTES = 50_000_000
#: Bytes of a row besides its vector, measured with paths of 60 characters.
_ATTRIBUTE_BYTES = 100


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """A shard as the manifest lists it.

    Attributes:
        file: name in the snapshot's folder.
        rows: number of rows.
        bytes: size of the file.
        sha256: hex SHA-256 of the file.
        first_key: the smallest key; "" if there is no row.
        last_key: the largest key; "" if there is no row.
        keys: number of distinct keys, fewer than rows where an image has several faces.
    """

    file: str
    rows: Size
    bytes: Size
    sha256: str
    first_key: str
    last_key: str
    keys: Size


def shard_of(key: str, num_shards: int) -> int:
    """Return the number of the shard that holds a key.

    It is the first 8 bytes of the SHA-256 of the key in UTF-8, as a little-endian number, modulo
    the number of shards: the same on every machine and in every language.

    Raises:
        StorageError: the key is not valid Unicode, or ``num_shards`` is less than 1.
    """
    if num_shards < 1:
        raise StorageError(f"A snapshot cannot have {num_shards} shards; give 1 or more")
    try:
        digest = hashlib.sha256(key.encode()).digest()
    except UnicodeEncodeError as error:
        raise StorageError(f"The key {key!r} is not valid Unicode and cannot be stored") from error
    return int.from_bytes(digest[:8], "little") % num_shards


def choose_num_shards(rows: int, model: ModelInfo) -> int:
    """Return the number of shards that gives files of about 50 MB, at least 1."""
    vector_bytes = model.dimension * columns.NUMBER_TYPES[model.dtype].itemsize
    hash_bytes = HASH_BYTES if model.hash else 0
    return max(1, round(rows * (vector_bytes + _ATTRIBUTE_BYTES + hash_bytes) / _SHARD_BYTES))


def shard_name(shard: int, num_shards: int) -> str:
    """Return the file name of a shard, ``embeddings-00003-of-00016.fid.gz``."""
    return f"embeddings-{shard:05d}-of-{num_shards:05d}.fid.gz"


def make_header(
    info: SnapshotInfo, shard: int, rows: int, specs: tuple[ColumnSpec, ...] | None = None
) -> ShardHeader:
    """Return the header of one shard; its columns are those of EmbeddingRow if None."""
    model = info.model
    return ShardHeader(
        snapshot=info.snapshot,
        place=(shard, info.num_shards),
        model=model.name,
        model_digest=model.digest,
        preprocessing_digest=model.preprocessing_digest,
        dimension=model.dimension,
        dtype=model.dtype,
        norm="l2",
        created=info.created,
        rows=rows,
        writer=info.writer,
        columns=specs or row_columns(model),
        faces=model.faces,
    )


def write_shard(
    folder: str, info: SnapshotInfo, shard: int, rows: Iterable[EmbeddingRow]
) -> ShardSummary:
    """Write one shard file, whole or not at all, and return its summary.

    The same rows give the same file, whatever their order.

    Args:
        folder: the snapshot's folder, see :func:`featureid.storage.snapshot.snapshot_folder`.
        info: the snapshot.
        shard: number of the shard.
        rows: its rows, in any order; a shard without rows must be written, too.

    Raises:
        StorageError: a duplicate, a key of another shard, a vector that is not of unit length, a
            face for a model of whole images or the reverse, or the file cannot be written.
    """
    ordered = own_rows(rows, info, shard)
    blocks = row_blocks(ordered, info, layout.BLOCK_ROWS)
    return write_blocks(folder, info, shard, len(ordered), blocks)


def own_rows(rows: Iterable[EmbeddingRow], info: SnapshotInfo, shard: int) -> list[EmbeddingRow]:
    """Return the rows of a shard, sorted.

    Raises:
        StorageError: a key belongs in another shard.
    """
    ordered = sorted(rows, key=lambda row: row.order)
    for row in ordered:
        home = shard_of(row.key, info.num_shards)
        if home != shard:
            raise StorageError(f"The key {row.key!r} belongs in shard {home}, not {shard}")
    return ordered


def write_blocks(
    folder: str,
    info: SnapshotInfo,
    shard: int,
    rows: int,
    blocks: Iterable[Mapping[str, Values]],
) -> ShardSummary:
    """Write one shard file of ``rows`` rows, given in blocks; errors as in :func:`write_shard`."""
    name = shard_name(shard, info.num_shards)
    encoder = ShardEncoder(name, make_header(info, shard, rows), blocks)
    files.write_atomic(files.join(folder, name), encoder)
    return encoder.summary


def row_blocks(
    rows: Sequence[EmbeddingRow], info: SnapshotInfo, block_rows: int
) -> Iterator[dict[str, Values]]:
    """Yield sorted rows as blocks of columns, one block in memory at a time.

    Blocks have ``block_rows`` rows, or more so that all faces of an image are in one block.

    Raises:
        StorageError: a vector has another dimension, a row has a face though the model takes whole
            images, or it has none though the model takes faces.
    """
    for start, end in cut_blocks([row.key for row in rows], block_rows):
        yield row_block(rows[start:end], info.model)


def cut_blocks(keys: Sequence[str], block_rows: int) -> Iterator[tuple[int, int]]:
    """Yield the bounds ``[start, end)`` of the blocks into which sorted rows are cut.

    Args:
        keys: the key of every row, sorted.
        block_rows: rows per block; a block has more so that all rows of a key are in one block.
    """
    start = 0
    while start < len(keys):
        end = min(start + block_rows, len(keys))
        while end < len(keys) and keys[end] == keys[end - 1]:
            end += 1
        yield start, end
        start = end


def row_steps(keys: Values, face_indexes: Values | None) -> list[Any]:
    """Return what the rows of a block are sorted by: keys, or pairs of key and face index."""
    if face_indexes is None:
        return list(keys)
    return list(zip(keys, np.asarray(face_indexes).tolist(), strict=True))


class ShardEncoder:
    """The bytes of one shard, encoded while they are iterated over, which is possible once.

    Blocks are mappings from column name to values, sorted by key over all blocks; vectors are
    float32 (rows, dimension), whatever type the shard stores. Each block is checked before its
    bytes are yielded.
    """

    def __init__(
        self, file: str, header: ShardHeader, blocks: Iterable[Mapping[str, Values]]
    ) -> None:
        """Encode nothing yet.

        Args:
            file: the name for the summary and for messages.
            header: the header; its ``rows`` must be the total of the blocks.
            blocks: the rows; all rows of a key must be in one block.
        """
        self._file = file
        self._header = header
        self._blocks = blocks
        self._sha256 = hashlib.sha256()
        self._position = 0
        self._written: list[Block] = []
        self._different = 0
        self._summary: ShardSummary | None = None

    @property
    def summary(self) -> ShardSummary:
        """The summary, once all bytes have been yielded.

        Raises:
            StorageError: they have not.
        """
        if self._summary is None:
            raise StorageError(f"{self._file} has not been encoded to its end")
        return self._summary

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of the shard, a block at a time."""
        payload = layout.header_payload(self._header)
        member = layout.pack_text(payload)
        header_entry = _entry(self._position, member, len(payload))
        yield self._count(member)
        for block in self._blocks:
            yield self._count(self._encode_block(block))
        self._check_rows()
        payload = layout.index_payload(Index(header_entry, tuple(self._written)))
        member = layout.pack_text(payload)
        footer = layout.footer_member(_entry(self._position, member, len(payload)))
        yield self._count(member)
        yield self._count(footer)
        self._summary = ShardSummary(
            self._file,
            self._header.rows,
            self._position,
            self._sha256.hexdigest(),
            self._written[0].first if self._written else "",
            self._written[-1].last if self._written else "",
            self._different,
        )

    def _encode_block(self, block: Mapping[str, Values]) -> bytes:
        specs = self._header.columns
        keys = block[layout.KEY]
        faces = block.get(layout.FACE_INDEX)
        self._check_keys(keys, faces)
        self._different += len(keys) if faces is None else len(set(keys))
        values = {**block, layout.VECTOR: _checked_vectors(self._file, self._header, block)}
        if any(len(values[spec.name]) != len(keys) for spec in specs):
            raise StorageError(f"{self._file}: the columns of a block have different lengths")
        packed = _pack_block(specs, values)
        position, entries = self._position, []
        for members in packed:
            entry = []
            for member, raw_length in members:
                entry.append(_entry(position, member, raw_length))
                position = entry[-1].end
            entries.append(tuple(entry))
        self._written.append(Block(len(keys), str(keys[0]), str(keys[-1]), tuple(entries)))
        # In one piece, since hashing and writing many small ones takes longer.
        return b"".join(member for members in packed for member, _ in members)

    def _count(self, member: bytes) -> bytes:
        self._sha256.update(member)
        self._position += len(member)
        return member

    def _check_keys(self, keys: Values, face_indexes: Values | None) -> None:
        if not len(keys):
            raise StorageError(f"{self._file}: a block has no rows; leave it out")
        last = self._written[-1].last if self._written else None
        if last is not None and keys[0] == last:
            raise StorageError(
                f"{self._file}: {last!r} has rows in two blocks, or twice; put all of them into one"
            )
        if last is not None and keys[0] < last:
            raise self._disorder(keys[0], last)
        steps = row_steps(keys, face_indexes)
        # Sorting what is sorted already, and counting, is three times as fast as comparing pairs.
        if sorted(steps) != steps or len(set(steps)) != len(steps):
            before, row = next(pair for pair in pairwise(steps) if not pair[0] < pair[1])
            if row == before:
                raise StorageError(f"{self._file}: duplicate row {row!r}")
            raise self._disorder(row, before)

    def _disorder(self, row: object, before: object) -> StorageError:
        return StorageError(f"{self._file}: row {row!r} follows {before!r}; rows must be sorted")

    def _check_rows(self) -> None:
        rows = sum(block.rows for block in self._written)
        if rows != self._header.rows:
            raise StorageError(
                f"{self._file}: the blocks have {rows} rows, the header says {self._header.rows}"
            )


def _entry(position: int, member: gzip_members.Buffer, raw_length: int) -> Member:
    return Member(position, len(member), raw_length, gzip_members.member_crc(member))


def _pack_block(
    specs: tuple[ColumnSpec, ...], values: Mapping[str, Values]
) -> list[list[columns.Packed]]:
    """Return the members of a block, stored instead of deflated if MAX_RATIO would be exceeded."""
    packed = [columns.to_members(spec, values[spec.name]) for spec in specs]
    length = sum(len(member) for members in packed for member, _ in members)
    raw = sum(raw_length for members in packed for _, raw_length in members)
    if raw <= layout.MAX_RATIO * length:
        return packed
    return [columns.to_members(spec, values[spec.name], smaller=False) for spec in specs]


def _checked_vectors(
    file: str, header: ShardHeader, block: Mapping[str, Values]
) -> npt.NDArray[Any]:
    """Return the vectors in the stored type; all must be of unit length."""
    given = np.asarray(block[layout.VECTOR])
    vectors = given.astype(np.float32, copy=False)
    if vectors.shape != (len(block[layout.KEY]), header.dimension):
        raise StorageError(
            f"{file}: a block has vectors of shape {vectors.shape} for {len(block[layout.KEY])} "
            f"keys and dimension {header.dimension}"
        )
    found = not_unit(given)
    if found is not None:
        row, length = found
        raise StorageError(
            f"{file}: the vector of {block[layout.KEY][row]!r} has length {length}, not 1; "
            "normalize vectors before writing them"
        )
    stored: npt.NDArray[Any] = vectors.astype(columns.NUMBER_TYPES[header.dtype], copy=False)
    return stored


def not_unit(vectors: npt.NDArray[Any]) -> tuple[int, float] | None:
    """Return the first row that is not of unit length, and its length; None if there is none.

    Args:
        vectors: (rows, dimension) floats. float16 are taken as rounded already, which may have
            changed their length.
    """
    rounded = vectors.dtype.itemsize == 2
    tolerance = STORED_UNIT_TOLERANCE["float16"] if rounded else UNIT_TOLERANCE
    with np.errstate(over="ignore", invalid="ignore"):  # A large float64 becomes infinite.
        numbers = vectors.astype(np.float32, copy=False)
        # A small product per row is twice as fast as einsum.
        norms = np.sqrt(numbers[:, np.newaxis, :] @ numbers[:, :, np.newaxis]).reshape(-1)
    bad = np.flatnonzero(~(np.abs(norms - 1) <= tolerance))
    return (int(bad[0]), float(norms[bad[0]])) if bad.size else None
