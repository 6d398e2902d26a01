"""Read one shard file: its index first, then only the bytes that are needed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from featureid.errors import StorageError
from featureid.storage import columns, gzip_members, layout
from featureid.storage.columns import ColumnSpec, Values
from featureid.storage.files import RangeReader
from featureid.storage.gzip_members import Buffer
from featureid.storage.layout import DamageError, Member

#: Bytes read first from the end of a shard: the footer and, mostly, the index.
TAIL = 65_536

_Payload = TypeVar("_Payload", bytes, gzip_members.Blocks)


class ShardMap:
    """Header and index of a shard: small, and all that is needed to read any part of it.

    Attributes:
        file: path or URI of the shard.
        header: its header.
        index: its index.
        first_rows: for each block, the number of its first row in the shard.
    """

    def __init__(self, source: RangeReader) -> None:
        """Read footer, index and header.

        Raises:
            DamageError: one of them is damaged.
            StorageError: the file cannot be read or is of a later version.
        """
        self.file = source.uri
        start = max(0, source.size - TAIL)
        tail = memoryview(source.read(start, source.size - start))
        self.index_member = self._footer(tail, source.size)
        payload = self._open(
            self.index_member, "the index", _fetch(source, self.index_member, tail)
        )
        try:
            self.index = layout.parse_index(payload, self.index_member.offset)
        except ValueError as error:
            raise self.damage(self.index_member, "the index", error) from error
        member = self.index.header
        payload = self._open(member, "the header", _fetch(source, member, tail))
        try:
            self.header = layout.parse_header(payload)
        except ValueError as error:
            raise self.damage(member, "the header", error) from error
        try:
            layout.check_index(self.index, self.header)
        except ValueError as error:
            raise self.damage(self.index_member, "the index", error) from error
        self.first_rows = list(accumulate((b.rows for b in self.index.blocks), initial=0))[:-1]

    def _footer(self, tail: memoryview, size: int) -> Member:
        try:
            return layout.parse_footer(tail[-layout.FOOTER_SIZE :], size)
        except ValueError as error:
            start = max(0, size - layout.FOOTER_SIZE)
            reason = f"{error}; the file was truncated or is not a shard"
            raise DamageError(self.file, "the footer", start, size, reason) from error
        except StorageError as error:
            raise StorageError(f"{self.file}: {error}") from error

    def _open(self, member: Member, place: str, data: Buffer) -> bytes:
        """Return the payload of a member after checking its bytes."""
        return self._checked(gzip_members.unpack, member, place, data)

    def _open_blocks(self, member: Member, place: str, data: Buffer) -> gzip_members.Blocks:
        """Return the payload of a member in place, without a copy, after checking its bytes."""
        return self._checked(gzip_members.unpack_blocks, member, place, data)

    def _checked(
        self, unpack: Callable[[Buffer, int], _Payload], member: Member, place: str, data: Buffer
    ) -> _Payload:
        if gzip_members.member_crc(data) != member.crc:
            raise self.damage(member, place, ValueError("its checksum does not match"))
        try:
            return unpack(data, member.raw_length)
        except ValueError as error:
            raise self.damage(member, place, error) from error

    def damage(self, member: Member, place: str, error: ValueError) -> DamageError:
        """Return the error for a damaged member."""
        return DamageError(self.file, place, member.offset, member.end, str(error))

    def spec(self, name: str) -> tuple[int, ColumnSpec]:
        """Return position and description of a column.

        Raises:
            StorageError: there is no such column, or it is of a type from a later version.
        """
        position = self.header.column(name)
        if position is None:
            names = ", ".join(column.name for column in self.header.columns)
            raise StorageError(f"{self.file} has no column {name!r}; it has {names}")
        spec = self.header.columns[position]
        if not spec.known:
            raise StorageError(
                f"{self.file}: column {name!r} is {spec.type} in {spec.encoding}, which this "
                "version cannot read; update featureid"
            )
        return position, spec

    def payloads(self, source: RangeReader, block: int, name: str) -> list[bytes]:
        """Return the payloads of one column of one block.

        Raises:
            DamageError: one of its members is damaged.
            StorageError: there is no such column, or the file cannot be read.
        """
        return [self._open(*found) for found in self._fetched(source, block, name)]

    def _fetched(
        self, source: RangeReader, block: int, name: str
    ) -> Iterator[tuple[Member, str, Buffer]]:
        """Yield member, place and bytes of one column of one block, read in one go."""
        position, spec = self.spec(name)
        members = self.index.blocks[block].columns[position]
        start, end = members[0].offset, members[-1].end
        data = memoryview(source.read(start, end - start))
        for plane, member in enumerate(members):
            place = _place(block, spec, plane, len(members))
            yield member, place, data[member.offset - start : member.end - start]

    def values(self, source: RangeReader, block: int, name: str) -> Values:
        """Return the values of one column of one block; errors as in :meth:`payloads`."""
        position, spec = self.spec(name)
        entry = self.index.blocks[block]
        try:
            return columns.from_payloads(spec, entry.rows, self.payloads(source, block, name))
        except ValueError as error:
            place = _place(block, spec, 0, 1)
            raise self.damage(entry.columns[position][0], place, error) from error

    def keys(self, source: RangeReader, block: int) -> list[str]:
        """Return the keys of one block; errors as in :meth:`payloads`."""
        return list(self.values(source, block, layout.KEY))

    def vectors_into(self, source: RangeReader, block: int, out: npt.NDArray[np.float32]) -> None:
        """Write the vectors of one block to ``out``, float32 (rows, dimension), contiguous.

        Raises:
            DamageError: a member is damaged.
            StorageError: the file cannot be read.
        """
        *low, lower, upper = self._fetched(source, block, layout.VECTOR)
        planes = [self._open_blocks(*found) for found in low]
        halves = self._open(*lower), self._open(*upper)
        _, spec = self.spec(layout.VECTOR)
        if out.dtype == spec.dtype:
            columns.merge_planes(planes, *halves, out)
            return
        narrow: npt.NDArray[Any] = np.empty(out.shape, spec.dtype)
        columns.merge_planes(planes, *halves, narrow)
        out[:] = narrow

    def find_block(self, key: str) -> int | None:
        """Return the one block that may hold a key, or None."""
        blocks = self.index.blocks
        position = bisect_right([block.first for block in blocks], key) - 1
        return position if position >= 0 and key <= blocks[position].last else None

    def members(self) -> Iterator[tuple[str, Member]]:
        """Yield every member of the blocks with the name of its place, in file order."""
        for number, block in enumerate(self.index.blocks):
            for spec, members in zip(self.header.columns, block.columns, strict=True):
                for plane, member in enumerate(members):
                    yield _place(number, spec, plane, len(members)), member


def _place(block: int, spec: ColumnSpec, plane: int, planes: int) -> str:
    place = f"block {block}, column {spec.name}"
    return f"{place}, plane {plane}" if planes > 1 else place


def _fetch(source: RangeReader, member: Member, tail: memoryview) -> Buffer:
    """Return a member's bytes, from the tail of the file if they are in it."""
    start = source.size - len(tail)
    if member.offset >= start:
        return tail[member.offset - start : member.end - start]
    return source.read(member.offset, member.length)
