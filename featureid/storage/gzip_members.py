"""Gzip members with a fixed header, of which every shard consists.

A member is written whole, from a payload in memory, and read whole, into no more memory than the
caller allows. ISA-L (package ``isal``) is used if it is installed, otherwise the standard library:
their deflated bytes differ, but inflate to the same payload.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # It only makes things faster.
    _HAS_ISAL = False
else:
    _HAS_ISAL = True

Buffer = bytes | bytearray | memoryview
#: Views of a payload, cut as stored deflate blocks hold it: (n, STORED_BLOCK) for full ones, and
#: (1, rest) for a shorter last one; each only if there is one.
Blocks = list[npt.NDArray[np.uint8]]

#: RFC 1952 header: deflate, no name, no time, no flags, unknown system.
MEMBER_HEADER = bytes.fromhex("1f8b08000000000000ff")
#: Payload bytes of every stored deflate block except the last one of a member.
STORED_BLOCK = 32_768

_TRAILER = struct.Struct("<II")
_STORED_HEADER = struct.Struct("<BHH")
_OVERHEAD = len(MEMBER_HEADER) + _TRAILER.size
_RAW_DEFLATE = -15
_GZIP = 31
_CHUNK = 1 << 20
# Higher levels take three times as long for a block of keys and save at most a tenth.
_LEVEL = 1


class Engine(Protocol):
    """What is needed of a deflate library."""

    name: str

    @property
    def error(self) -> type[Exception]:
        """The exception that its inflaters raise."""

    def crc32(self, data: Buffer, before: int = 0) -> int:
        """Return the CRC-32 of the data that follows data with the CRC-32 ``before``."""

    def deflate(self, payload: Buffer, *, huffman: bool) -> bytes:
        """Return a raw deflate stream; with ``huffman``, do not look for repeated strings."""

    def inflate(self, data: Buffer, length: int) -> bytes | None:
        """Return the payload, or None if the stream is not whole or not of ``length`` bytes."""

    def gunzip(self) -> Any:
        """Return a new inflater of one gzip member, with the methods of ``zlib.decompressobj``."""


class ZlibEngine:
    """The standard library."""

    name = "zlib"
    error = zlib.error

    def crc32(self, data: Buffer, before: int = 0) -> int:
        """Return the CRC-32 of the data that follows data with the CRC-32 ``before``."""
        return zlib.crc32(data, before)

    def deflate(self, payload: Buffer, *, huffman: bool) -> bytes:
        """Return a raw deflate stream."""
        strategy = zlib.Z_HUFFMAN_ONLY if huffman else zlib.Z_DEFAULT_STRATEGY
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE, 8, strategy)
        return packer.compress(payload) + packer.flush()

    def inflate(self, data: Buffer, length: int) -> bytes | None:
        """Return the payload, or None if the stream is not whole or not of ``length`` bytes."""
        unpacker = zlib.decompressobj(_RAW_DEFLATE)
        try:
            payload = unpacker.decompress(data, length + 1)
        except self.error:
            return None
        whole = unpacker.eof and not unpacker.unused_data and len(payload) == length
        return payload if whole else None

    def gunzip(self) -> Any:
        """Return a new inflater of one gzip member."""
        return zlib.decompressobj(_GZIP)


class IsalEngine:
    """Intel's ISA-L, which is several times faster."""

    name = "isal"

    @property
    def error(self) -> type[Exception]:
        """The exception that its inflaters raise."""
        return isal_zlib.error  # type: ignore[return-value]

    def crc32(self, data: Buffer, before: int = 0) -> int:
        """Return the CRC-32 of the data that follows data with the CRC-32 ``before``."""
        return isal_zlib.crc32(data, before)

    def deflate(self, payload: Buffer, *, huffman: bool) -> bytes:
        """Return a raw deflate stream."""
        # ISA-L has no Huffman-only strategy, but a window of two bytes has the same effect. It
        # shrinks exponents of floats to 0.34 of their size; chance matches in 32 KiB, to 0.42.
        window = 1 if huffman else igzip_lib.MAX_HIST_BITS
        return igzip_lib.compress(payload, _LEVEL, igzip_lib.COMP_DEFLATE, hist_bits=window)

    def inflate(self, data: Buffer, length: int) -> bytes | None:
        """Return the payload, or None if the stream is not whole or not of ``length`` bytes."""
        unpacker = isal_zlib.decompressobj(_RAW_DEFLATE)
        try:
            payload = unpacker.decompress(data, length + 1)
        except self.error:
            return None
        whole = unpacker.eof and not unpacker.unused_data and len(payload) == length
        return payload if whole else None

    def gunzip(self) -> Any:
        """Return a new inflater of one gzip member."""
        return isal_zlib.decompressobj(_GZIP)


engine: Engine = IsalEngine() if _HAS_ISAL else ZlibEngine()


def crc32(data: Buffer) -> int:
    """Return the CRC-32 (as in gzip) of the data."""
    return engine.crc32(data)


def member_crc(member: Buffer) -> int:
    """Return the CRC-32 of a member as an index has it: of its trailer, then of the bytes before.

    In file order, the payload's own CRC would come last and cancel the payload out: all stored
    members of the same length, up to 32,768, would have the same CRC.
    """
    view = memoryview(member)
    trailer = engine.crc32(view[-_TRAILER.size :])
    return engine.crc32(view[: -_TRAILER.size], trailer)


def stored_size(raw_length: int) -> int:
    """Return the length of the stored member that holds ``raw_length`` payload bytes."""
    blocks = max(1, -(-raw_length // STORED_BLOCK))
    return _OVERHEAD + _STORED_HEADER.size * blocks + raw_length


class StoredFrame:
    """A stored member whose payload is written in place, so that it is never copied.

    Attributes:
        blocks: views of the places for the payload.
    """

    def __init__(self, raw_length: int) -> None:
        """Lay out the member for a payload of ``raw_length`` bytes."""
        self._member = bytearray(stored_size(raw_length))
        self._member[: len(MEMBER_HEADER)] = MEMBER_HEADER
        for position, header in _stored_headers(raw_length):
            self._member[position : position + len(header)] = header
        self.blocks = _stored_blocks(self._member, raw_length)

    def seal(self) -> bytearray:
        """Return the member, after the payload has been written into :attr:`blocks`."""
        crc, length = 0, 0
        for block in (row for blocks in self.blocks for row in blocks):
            crc, length = engine.crc32(block.data, crc), length + len(block)
        self._member[-_TRAILER.size :] = _TRAILER.pack(crc, length & 0xFFFF_FFFF)
        return self._member


def store(payload: Buffer) -> bytes:
    """Return a member of stored deflate blocks, which are not compressed."""
    frame = StoredFrame(memoryview(payload).nbytes)
    for place, block in zip(frame.blocks, blocks_of(payload), strict=True):
        place[:] = block
    return bytes(frame.seal())


def deflate(payload: Buffer, *, huffman: bool = False) -> bytes:
    """Return a deflated member, or a stored one if deflating saves less than a sixteenth.

    Saving less is not worth the time to inflate it.

    Args:
        payload: the bytes to pack.
        huffman: do not look for repeated strings, which in numbers occur only by chance.
    """
    stream = engine.deflate(payload, huffman=huffman)
    if _OVERHEAD + len(stream) > stored_size(memoryview(payload).nbytes) * 15 // 16:
        return store(payload)
    return b"".join([MEMBER_HEADER, stream, _trailer(payload)])


def unpack(member: Buffer, raw_length: int) -> bytes:
    """Return the payload of one whole member.

    It does not check the payload's own CRC, as :func:`check_trailer` does: the index of a shard
    has the CRC of the member's bytes.

    Args:
        member: the bytes of exactly one member.
        raw_length: the length that the payload must have; no more memory is allocated.

    Raises:
        ValueError: the bytes are not such a member; the message has the reason.
    """
    if memoryview(member).nbytes == stored_size(raw_length):
        return b"".join(row.data for blocks in unpack_blocks(member, raw_length) for row in blocks)
    payload = engine.inflate(_stream(member), raw_length)
    if payload is None:
        raise ValueError(f"it does not inflate to {raw_length} bytes")
    return payload


def unpack_blocks(member: Buffer, raw_length: int) -> Blocks:
    """Return the payload of one whole member; of a stored one, as views of the member.

    Raises:
        ValueError: as in :func:`unpack`.
    """
    view = memoryview(member)
    if view.nbytes != stored_size(raw_length):
        return blocks_of(unpack(member, raw_length))
    _stream(member)
    for position, header in _stored_headers(raw_length):
        if view[position : position + len(header)] != header:
            raise ValueError("a stored deflate block has a wrong header")
    return _stored_blocks(member, raw_length)


def blocks_of(payload: Buffer) -> Blocks:
    """Return views of a payload, cut like that of a stored member."""
    return _blocks(payload, memoryview(payload).nbytes, 0, STORED_BLOCK)


def check_trailer(member: Buffer, payload: Buffer) -> None:
    """Check the CRC-32 and length that end a member against its payload.

    Raises:
        ValueError: they differ.
    """
    if bytes(memoryview(member)[-_TRAILER.size :]) != _trailer(payload):
        raise ValueError("the gzip checksum or length does not match the payload")


def gunzip(data: Buffer, max_bytes: int) -> bytes:
    """Return the content of a whole gzip file of any writer, with one member or several.

    Args:
        data: the file.
        max_bytes: no more memory is allocated.

    Raises:
        ValueError: it is not a whole gzip file, or holds more than ``max_bytes``.
    """
    view, parts, left = memoryview(data), [], max_bytes
    position, pending, inflater = 0, view[:0], None
    while position < len(view) or pending:
        if not pending:
            # In pieces, because zlib copies what follows the end of a member.
            pending = view[position : position + _CHUNK]
            position += len(pending)
        inflater = inflater or engine.gunzip()
        try:
            parts.append(inflater.decompress(pending, left + 1))
        except engine.error as error:
            raise ValueError(f"not a gzip file, or corrupt ({error})") from error
        left -= len(parts[-1])
        if left < 0:
            raise ValueError(f"it inflates to more than {max_bytes} bytes")
        pending = memoryview(inflater.unused_data)
        if inflater.eof:
            inflater = None
    if inflater is not None or not parts:
        raise ValueError("it ends within a member")
    return b"".join(parts)


def _stream(member: Buffer) -> memoryview:
    view = memoryview(member)
    if len(view) < _OVERHEAD or view[: len(MEMBER_HEADER)] != MEMBER_HEADER:
        raise ValueError("it does not start with the fixed gzip header")
    return view[len(MEMBER_HEADER) : -_TRAILER.size]


def _stored_headers(raw_length: int) -> Iterator[tuple[int, bytes]]:
    """Yield position and content of the headers of a stored member's deflate blocks."""
    position, left = len(MEMBER_HEADER), raw_length
    while True:
        size = min(left, STORED_BLOCK)
        left -= size
        yield position, _STORED_HEADER.pack(not left, size, size ^ 0xFFFF)
        position += _STORED_HEADER.size + size
        if not left:
            return


def _stored_blocks(member: Buffer, raw_length: int) -> Blocks:
    header = _STORED_HEADER.size
    return _blocks(member, raw_length, len(MEMBER_HEADER) + header, STORED_BLOCK + header)


def _blocks(data: Buffer, raw_length: int, start: int, step: int) -> Blocks:
    """Return views of the blocks of STORED_BLOCK bytes, ``step`` bytes apart, and of the rest."""
    whole, rest = divmod(raw_length, STORED_BLOCK)
    blocks: Blocks = []
    if whole:
        blocks.append(np.ndarray((whole, STORED_BLOCK), np.uint8, data, start, (step, 1)))
    if rest:
        blocks.append(np.ndarray((1, rest), np.uint8, data, start + whole * step))
    return blocks


def _trailer(payload: Buffer) -> bytes:
    return _TRAILER.pack(engine.crc32(payload), memoryview(payload).nbytes & 0xFFFF_FFFF)
