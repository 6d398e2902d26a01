"""The parts that describe a shard, to bytes and back: header, index and footer.

``docs/format.md`` is the specification; the names are the same.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from itertools import chain
from typing import Literal

import msgspec

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members
from featureid.storage.columns import HALVES, ColumnSpec
from featureid.storage.gzip_members import Buffer
from featureid.storage.records import DTYPES
from featureid.stored_json import PositiveSize, Size, decode_json, encode_json, refuse_newer

VERSION = 1
#: A group of members inflates to at most this many times its size in the file.
MAX_RATIO = 8
#: Rows per block that are written; ``docs/format.md`` says why.
BLOCK_ROWS = 1536

KEY = "key"
VECTOR = "vector"
FACE_INDEX = "face_index"
HASH = "pdq"
HASH_QUALITY = "pdq_quality"

_MAGIC = b"FIDSHARD"
_FOOTER = struct.Struct("<8sIIQQQ")
FOOTER_SIZE = gzip_members.stored_size(_FOOTER.size)
_TITLE = re.compile(rb"featureid-shard ([1-9][0-9]{0,8})\n")


class DamageError(CorruptFileError):
    """A damaged place in a file.

    Attributes:
        file: the file.
        place: the part of it, such as ``block 3, column vector, plane 2``.
        start: first byte of that part.
        end: the byte after its last byte.
        reason: what is wrong with it.
    """

    def __init__(self, file: str, place: str, start: int, end: int, reason: str) -> None:
        super().__init__(
            f"{file}: {place} (bytes {start} to {end - 1}) is damaged: {reason}. "
            "Restore the file from a copy, or embed again"
        )
        self.file, self.place, self.start, self.end, self.reason = file, place, start, end, reason

    def __reduce__(self) -> tuple[type[DamageError], tuple[str, str, int, int, str]]:
        return type(self), (self.file, self.place, self.start, self.end, self.reason)


class ShardHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The header of a shard.

    Attributes:
        snapshot: id of the snapshot it belongs to.
        place: number of the shard, from 0, and total number of shards.
        model: name of the model.
        model_digest: hex digest of the model bundle.
        preprocessing_digest: hex digest of what happens to pixels before the model.
        dimension: numbers in a vector.
        dtype: ``float32`` or ``float16``.
        norm: ``l2``: the norm in which vectors have length 1.
        created: UTC, ISO 8601.
        rows: rows in the shard.
        writer: program and version that wrote it.
        columns: the columns, in file order.
        faces: how faces were found and chosen; "" for a model of whole images.

    Raises:
        StorageError: the fields contradict each other or the format.
    """

    snapshot: str
    place: tuple[Size, Size] = msgspec.field(name="shard")
    model: str
    model_digest: str
    preprocessing_digest: str
    dimension: PositiveSize
    dtype: str
    norm: Literal["l2"]
    created: str
    rows: Size
    writer: str
    columns: tuple[ColumnSpec, ...]
    faces: str = ""

    def __post_init__(self) -> None:
        if self.shard >= self.num_shards:
            raise StorageError(f"Shard {self.shard} is not one of {self.num_shards} shards")
        key = ColumnSpec(KEY, "utf8")
        vector = ColumnSpec(VECTOR, self.dtype, (self.dimension,), "planes")
        if self.columns[:2] != (key, vector) or self.dtype not in DTYPES:
            raise StorageError("Its first two columns are not key and vector as in version 1")
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise StorageError("Two columns have the same name")
        if FACE_INDEX in names and ColumnSpec(FACE_INDEX, "int32") not in self.columns:
            raise StorageError(f"The column {FACE_INDEX} is not int32 as in version 1")
        for column in self.columns:
            if column.known and not column.is_text and not column.bounded:
                raise StorageError(f"A value of the column {column.name} is too large to exist")

    @property
    def shard(self) -> int:
        """The number of the shard, from 0."""
        return self.place[0]

    @property
    def num_shards(self) -> int:
        """The total number of shards."""
        return self.place[1]

    def column(self, name: str) -> int | None:
        """Return the position of a column, or None."""
        names = [column.name for column in self.columns]
        return names.index(name) if name in names else None


class Member(msgspec.Struct, frozen=True, gc=False):
    """One gzip member as the index lists it: its place, payload length, and CRC of its bytes."""

    offset: int
    length: int
    raw_length: int
    crc: int

    @property
    def end(self) -> int:
        """The byte after the member's last byte."""
        return self.offset + self.length


class Block(msgspec.Struct, frozen=True):
    """Consecutive rows: the range of their keys and, column by column, their members."""

    rows: int
    first: str
    last: str
    columns: tuple[tuple[Member, ...], ...]


class Index(msgspec.Struct, frozen=True):
    """The places of the header's member and of the blocks, in file order."""

    header: Member
    blocks: tuple[Block, ...]


#: A member in the JSON of the index: length, raw length, CRC. Its place follows from the others.
_MemberEntry = tuple[Size, Size, Size]


class _BlockEntry(msgspec.Struct, frozen=True):
    """A block in the JSON of the index."""

    rows: PositiveSize
    first: str
    last: str
    offset: Size
    columns: tuple[tuple[_MemberEntry, ...], ...]


class _IndexEntry(msgspec.Struct, frozen=True):
    """The JSON of the index."""

    header: _MemberEntry
    blocks: tuple[_BlockEntry, ...]


def pack_text(payload: bytes) -> bytes:
    """Return the member of a header or index: deflated unless that breaks MAX_RATIO."""
    member = gzip_members.deflate(payload)
    return member if len(payload) <= MAX_RATIO * len(member) else gzip_members.store(payload)


def header_payload(header: ShardHeader) -> bytes:
    """Return the payload of the header member: a title line and a line of JSON."""
    return b"featureid-shard %d\n" % VERSION + encode_json(header) + b"\n"


def parse_header(payload: bytes) -> ShardHeader:
    """Parse the payload of a header member; unknown fields are ignored.

    Raises:
        ValueError: it is not a header of version 1; the message names the field.
    """
    title = _TITLE.match(payload)
    if title is None or int(title[1]) != VERSION:
        raise ValueError(f"it starts with {payload[:24]!r}, not 'featureid-shard {VERSION}'")
    return decode_json(payload[title.end() :], ShardHeader)


def index_payload(index: Index) -> bytes:
    """Return the payload of the index member: one JSON object."""
    blocks = tuple(
        _BlockEntry(
            block.rows,
            block.first,
            block.last,
            block.columns[0][0].offset,
            tuple(tuple(_entry(member) for member in column) for column in block.columns),
        )
        for block in index.blocks
    )
    return encode_json(_IndexEntry(_entry(index.header), blocks)) + b"\n"


def parse_index(payload: bytes, index_offset: int) -> Index:
    """Parse the payload of an index member and check that its members tile the file up to it.

    Raises:
        ValueError: it is not an index, or contradicts itself.
    """
    fields = decode_json(payload, _IndexEntry)
    header = Member(0, *fields.header)
    _check_ratio("the header", [header])
    position, blocks = header.end, []
    for number, entry in enumerate(fields.blocks):
        if entry.offset != position:
            raise ValueError(f"block {number} does not start at the end of the part before it")
        columns = []
        for column in entry.columns:
            members = []
            for length, raw_length, crc in column:
                members.append(Member(position, length, raw_length, crc))
                position += length
            columns.append(tuple(members))
        _check_ratio(f"block {number}", chain.from_iterable(columns))
        blocks.append(Block(entry.rows, entry.first, entry.last, tuple(columns)))
    if position != index_offset:
        raise ValueError(f"its parts end at byte {position}, the index starts at {index_offset}")
    return Index(header, tuple(blocks))


def check_index(index: Index, header: ShardHeader) -> None:
    """Check an index against the header: columns, rows and payload lengths.

    After this, bytes of the file back the rows and lengths in the index, so that memory may be
    allocated for them.

    Raises:
        ValueError: they contradict each other.
    """
    if sum(block.rows for block in index.blocks) != header.rows:
        raise ValueError(f"its blocks do not add up to the {header.rows} rows of the header")
    for number, block in enumerate(index.blocks):
        if len(block.columns) != len(header.columns):
            raise ValueError(f"block {number} has {len(block.columns)} columns")
        for spec, members in zip(header.columns, block.columns, strict=True):
            if spec.known and not _plausible(spec, block.rows, members):
                raise ValueError(f"block {number}, column {spec.name}: impossible lengths")


def _plausible(spec: ColumnSpec, rows: int, members: tuple[Member, ...]) -> bool:
    raw = [member.raw_length for member in members]
    if spec.is_text:
        return len(raw) == 1 and raw[0] >= 4 * rows
    if spec.encoding == "planes":
        stored = [member.length for member in members[:-HALVES]]
        if stored != [gzip_members.stored_size(length) for length in raw[:-HALVES]]:
            return False
    return raw == spec.raw_lengths(rows)


def footer_member(index: Member) -> bytes:
    """Return the member that ends a shard."""
    payload = _FOOTER.pack(_MAGIC, VERSION, index.crc, index.offset, index.length, index.raw_length)
    return gzip_members.store(payload)


def parse_footer(data: Buffer, file_size: int) -> Member:
    """Return the place of the index from the last FOOTER_SIZE bytes of a file.

    Raises:
        ValueError: they are not the footer of a shard of this size.
        NewerVersionError: the shard is of a later version.
    """
    payload = gzip_members.unpack(data, _FOOTER.size)
    gzip_members.check_trailer(data, payload)
    magic, version, crc, offset, length, raw_length = _FOOTER.unpack(payload)
    if magic != _MAGIC:
        raise ValueError(f"bad magic {magic!r}, not {_MAGIC!r}")
    refuse_newer(version, VERSION)
    index = Member(offset, length, raw_length, crc)
    if index.end != file_size - FOOTER_SIZE:
        raise ValueError(f"it belongs to a file of {index.end + FOOTER_SIZE} bytes")
    _check_ratio("the index", [index])
    return index


def _check_ratio(place: str, members: Iterable[Member]) -> None:
    length = raw_length = 0
    for member in members:
        length += member.length
        raw_length += member.raw_length
    if raw_length > MAX_RATIO * length:
        raise ValueError(f"{place} claims to inflate more than {MAX_RATIO} times")


def _entry(member: Member) -> _MemberEntry:
    return member.length, member.raw_length, member.crc
