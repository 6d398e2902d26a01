"""The parts of a shard that describe it: header, index and footer, to bytes and back.

``docs/format.md`` is the specification; the names here are the names there.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

from featureid.errors import CorruptFileError, StorageError
from featureid.storage import gzip_members
from featureid.storage.columns import HALVES, ColumnSpec
from featureid.storage.gzip_members import Buffer

VERSION = 1
#: A group of members inflates to at most this many times its bytes in the file.
MAX_RATIO = 8
#: Rows a writer puts into a block; see ``docs/format.md`` for how it was chosen.
BLOCK_ROWS = 1536

KEY = "key"
VECTOR = "vector"
FACE_INDEX = "face_index"

_MAGIC = b"FIDSHARD"
_FOOTER = struct.Struct("<8sIIQQQ")
FOOTER_SIZE = gzip_members.stored_size(_FOOTER.size)
_TITLE = re.compile(rb"featureid-shard ([1-9][0-9]{0,8})\n")


class DamageError(CorruptFileError):
    """A damaged place in a file.

    Attributes:
        file: the file.
        place: the part of it, ``block 3, column vector, plane 2``.
        start: first byte of that part.
        end: the byte after its last.
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


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """What a shard says about itself.

    Attributes:
        snapshot: id of the snapshot it belongs to.
        shard: its number, from 0.
        num_shards: how many there are.
        model: name of the model.
        model_digest: hex digest of the model bundle.
        preprocessing_digest: hex digest of what happens to pixels before the model.
        dimension: numbers in a vector.
        dtype: ``float32`` or ``float16``.
        created: UTC, ISO 8601.
        rows: rows in the shard.
        writer: program and version that wrote it.
        columns: the columns, in file order.
        faces: how faces were found and chosen; "" for a model of whole images.
    """

    snapshot: str
    shard: int
    num_shards: int
    model: str
    model_digest: str
    preprocessing_digest: str
    dimension: int
    dtype: str
    created: str
    rows: int
    writer: str
    columns: tuple[ColumnSpec, ...]
    faces: str = ""

    def column(self, name: str) -> int | None:
        """Return the position of a column, or None."""
        names = [column.name for column in self.columns]
        return names.index(name) if name in names else None


@dataclass(frozen=True, slots=True)
class Member:
    """One gzip member as the index lists it: its place, payload length, and CRC of its bytes."""

    offset: int
    length: int
    raw_length: int
    crc: int

    @property
    def end(self) -> int:
        """The byte after the member's last."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Block:
    """A run of rows: its keys' range and, column by column, its members."""

    rows: int
    first: str
    last: str
    columns: tuple[tuple[Member, ...], ...]


@dataclass(frozen=True, slots=True)
class Index:
    """Where everything is: the header's member and the blocks, in file order."""

    header: Member
    blocks: tuple[Block, ...]


def pack_text(payload: bytes) -> bytes:
    """Make the member of a header or index: deflated, unless that breaks MAX_RATIO."""
    member = gzip_members.deflate(payload)
    return member if len(payload) <= MAX_RATIO * len(member) else gzip_members.store(payload)


def header_payload(header: ShardHeader) -> bytes:
    """Return the payload of the header member: a title line and a line of JSON."""
    columns = [
        {"name": c.name, "type": c.type, "shape": list(c.shape), "encoding": c.encoding}
        for c in header.columns
    ]
    fields = {
        "snapshot": header.snapshot,
        "shard": [header.shard, header.num_shards],
        "model": header.model,
        "model_digest": header.model_digest,
        "preprocessing_digest": header.preprocessing_digest,
        "dimension": header.dimension,
        "dtype": header.dtype,
        "norm": "l2",
        "created": header.created,
        "rows": header.rows,
        "writer": header.writer,
        "columns": columns,
    }
    if header.faces:
        fields["faces"] = header.faces
    return b"featureid-shard %d\n" % VERSION + _to_json(fields) + b"\n"


def parse_header(payload: bytes) -> ShardHeader:
    """Read a header member's payload; unknown fields are ignored.

    Raises:
        ValueError: it is no header of version 1.
    """
    title = _TITLE.match(payload)
    if title is None or int(title[1]) != VERSION:
        raise ValueError(f"it starts with {payload[:24]!r}, not with 'featureid-shard {VERSION}'")
    fields = _from_json(payload[title.end() :])
    shard, num_shards = _integers(fields, "shard", 2)
    header = ShardHeader(
        shard=shard,
        num_shards=num_shards,
        dimension=_integer(fields, "dimension"),
        rows=_integer(fields, "rows"),
        columns=tuple(_column(entry) for entry in _objects(fields, "columns")),
        faces=_text(fields, "faces") if "faces" in fields else "",
        **{name: _text(fields, name) for name in _HEADER_TEXTS},
    )
    _check_header(header, _text(fields, "norm"))
    return header


_HEADER_TEXTS = (
    "snapshot",
    "model",
    "model_digest",
    "preprocessing_digest",
    "dtype",
    "created",
    "writer",
)


def _check_header(header: ShardHeader, norm: str) -> None:
    names = [column.name for column in header.columns]
    if len(set(names)) != len(names):
        raise ValueError("two columns have the same name")
    wanted = (
        ColumnSpec(KEY, "utf8"),
        ColumnSpec(VECTOR, header.dtype, (header.dimension,), "planes"),
    )
    if header.columns[:2] != wanted or header.dtype not in ("float32", "float16"):
        raise ValueError("its first two columns are not key and vector as version 1 has them")
    if FACE_INDEX in names and ColumnSpec(FACE_INDEX, "int32") not in header.columns:
        raise ValueError(f"its column {FACE_INDEX} is not of the type that it has in version 1")
    for column in header.columns:
        if column.known and not column.is_text and not column.bounded:
            raise ValueError(f"a value of the column {column.name} is impossibly large")
    if header.dimension < 1 or header.shard >= header.num_shards or norm != "l2":
        raise ValueError("its dimension, shard number or norm is impossible")


def _column(entry: dict[str, Any]) -> ColumnSpec:
    shape = entry.get("shape", [])
    if not isinstance(shape, list) or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError("the shape of a column is not a list of positive numbers")
    encoding = _text(entry, "encoding") if "encoding" in entry else "plain"
    return ColumnSpec(_text(entry, "name"), _text(entry, "type"), tuple(shape), encoding)


def index_payload(index: Index) -> bytes:
    """Return the payload of the index member: one JSON object."""
    blocks = [
        {
            "rows": block.rows,
            "first": block.first,
            "last": block.last,
            "offset": block.columns[0][0].offset,
            "columns": [[_entry(member) for member in column] for column in block.columns],
        }
        for block in index.blocks
    ]
    return _to_json({"header": _entry(index.header), "blocks": blocks}) + b"\n"


def parse_index(payload: bytes, index_offset: int) -> Index:
    """Read an index member's payload and check that its members tile the file up to the index.

    Raises:
        ValueError: it is no index, or contradicts itself.
    """
    fields = _from_json(payload)
    header = _member(_value(fields, "header"), 0)
    _check_ratio("the header", [header])
    position, blocks = header.end, []
    for number, entry in enumerate(_objects(fields, "blocks")):
        if _integer(entry, "offset") != position:
            raise ValueError(f"block {number} does not start where the part before it ends")
        columns = []
        for column in _lists(entry, "columns"):
            members = []
            for values in column:
                members.append(_member(values, position))
                position = members[-1].end
            columns.append(tuple(members))
        block = Block(
            _integer(entry, "rows"), _text(entry, "first"), _text(entry, "last"), tuple(columns)
        )
        if block.rows < 1:
            raise ValueError(f"block {number} has no rows")
        _check_ratio(f"block {number}", [member for column in columns for member in column])
        blocks.append(block)
    if position != index_offset:
        raise ValueError(f"its parts end at byte {position}, the index starts at {index_offset}")
    return Index(header, tuple(blocks))


def check_index(index: Index, header: ShardHeader) -> None:
    """Check an index against the header: columns, rows and payload lengths.

    After this, the rows and lengths that the index states are backed by bytes of the file, so
    that memory may be allocated by them.

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
    """Read the last FOOTER_SIZE bytes of a file and return where the index is.

    Raises:
        ValueError: they are no footer of a shard of that size.
        StorageError: the shard is of a later version.
    """
    payload = gzip_members.unpack(data, _FOOTER.size)
    gzip_members.check_trailer(data, payload)
    magic, version, crc, offset, length, raw_length = _FOOTER.unpack(payload)
    if magic != _MAGIC:
        raise ValueError("it has not the mark of a featureid shard")
    if version != VERSION:
        raise StorageError(
            f"the shard has format version {version}, this featureid reads version {VERSION}; "
            "update featureid"
        )
    index = Member(offset, length, raw_length, crc)
    if index.end != file_size - FOOTER_SIZE:
        raise ValueError(f"it belongs to a file of {index.end + FOOTER_SIZE} bytes")
    _check_ratio("the index", [index])
    return index


def _check_ratio(place: str, members: list[Member]) -> None:
    length = sum(member.length for member in members)
    if sum(member.raw_length for member in members) > MAX_RATIO * length:
        raise ValueError(f"{place} claims to inflate more than {MAX_RATIO} times")


def _entry(member: Member) -> list[int]:
    return [member.length, member.raw_length, member.crc]


def _member(values: Any, offset: int) -> Member:
    if not isinstance(values, list) or len(values) != 3 or not all(map(_is_size, values)):
        raise ValueError("a member's entry is not [length, raw length, crc32]")
    return Member(offset, *values)


def _to_json(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def _from_json(payload: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(payload)
    except RecursionError as error:
        raise ValueError("its JSON is nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    return fields


def _value(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f"{name!r} is missing")
    return fields[name]


def _text(fields: dict[str, Any], name: str) -> str:
    value = _value(fields, name)
    if not isinstance(value, str):
        raise ValueError(f"{name!r} is not a text")
    return value


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _integer(fields: dict[str, Any], name: str) -> int:
    value = _value(fields, name)
    if not _is_size(value):
        raise ValueError(f"{name!r} is not a number from 0 on")
    return int(value)


def _integers(fields: dict[str, Any], name: str, count: int) -> list[int]:
    value = _value(fields, name)
    if not isinstance(value, list) or len(value) != count or not all(map(_is_size, value)):
        raise ValueError(f"{name!r} is not a list of {count} numbers")
    return value


def _lists(fields: dict[str, Any], name: str) -> list[list[Any]]:
    value = _value(fields, name)
    if not isinstance(value, list) or not all(isinstance(entry, list) for entry in value):
        raise ValueError(f"{name!r} is not a list of lists")
    return value


def _objects(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = _value(fields, name)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise ValueError(f"{name!r} is not a list of objects")
    return value
