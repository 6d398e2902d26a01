"""The chunks of PNG files, checked before Pillow sees them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from featureid.images.failures import check_pixels, corrupt, truncated, unsupported

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_END = b"\0\0\0\0IEND\xaeB`\x82"
_INFLATE_STEP = 1 << 20
# Writers that split pixels finely use some 4 KiB: 65,536 chunks for the largest file.
_MAX_CHUNKS = 1 << 17
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Left, top, and steps to the right and down of each pass of an interlaced image (PNG, 8.2).
_PASSES = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)),
    (0, 1, 1, 2),
)


@dataclass(frozen=True)
class EssentialPng:
    """What decides the image of a PNG file.

    Attributes:
        data: a PNG file of the critical chunks and ``tRNS``; an animation becomes its default
            image.
        exif: the content of ``eXIf``, or b"".
        bits: per sample.
        interlaced: whether its rows are stored in seven passes.
    """

    data: bytes
    exif: bytes
    bits: int
    interlaced: bool


def essential_png(data: bytes, max_pixels: int) -> EssentialPng:
    """Check the chunks of a PNG file and keep those that decide the image.

    Damaged metadata, text bombs and further frames never reach the decoder. A missing or damaged
    end chunk is replaced if the compressed pixels before it are complete.

    Args:
        data: a file that begins with the PNG signature.
        max_pixels: the limit for the pixels of the image.

    Raises:
        ImageError: ``truncated``, ``corrupt`` (a wrong checksum), ``too-many-pixels`` or
            ``unsupported``.
    """
    kept, exif, position, name, chunks = [_SIGNATURE], b"", len(_SIGNATURE), b"", 0
    while True:
        previous, (name, end) = name, _chunk(data, position)
        if name == b"IEND":
            break
        if end > len(data):
            if has_all_rows(b"".join(kept), max_pixels):
                break
            raise truncated(f"the PNG chunk after {previous.decode('latin-1') or 'the signature'}")
        chunks += 1
        if chunks > _MAX_CHUNKS:
            raise corrupt("PNG", f"more than {_MAX_CHUNKS:,} chunks")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        intact = zlib.crc32(memoryview(data)[position + 4 : end - 4]) == checksum
        if name in _CRITICAL or name == b"tRNS":
            if not intact:
                raise corrupt("PNG", f"checksum of the chunk {name!r}")
            kept.append(data[position:end])
        elif name == b"eXIf" and intact:
            exif = data[position + 8 : end - 4]
        elif not name[0] & 0x20:
            raise unsupported("PNG", f"the private critical chunk {name!r}")
        position = end
    if len(kept) < 2 or kept[1][4:8] != b"IHDR" or len(kept[1]) != 25:
        raise corrupt("PNG", "no IHDR chunk at its beginning")
    return EssentialPng(b"".join((*kept, _END)), exif, kept[1][16], kept[1][20] != 0)


def has_all_rows(data: bytes, max_pixels: int) -> bool:
    """Return whether the compressed pixels of a PNG file are complete; they are not kept.

    Pillow leaves black the rows that a compressed stream lacks, if it ends as it should.

    Args:
        data: a PNG file whose chunks are whole, with or without its last one.
        max_pixels: the limit for the pixels of the image.

    Raises:
        ImageError: ``too-many-pixels``.
    """
    header = data[len(_SIGNATURE) : len(_SIGNATURE) + 25]
    if len(header) < 25 or header[4:8] != b"IHDR":
        return False
    width, height = struct.unpack_from(">II", header, 8)
    check_pixels(width, height, max_pixels)
    missing, stream = _inflated_size(header), zlib.decompressobj()
    try:
        for pending in _compressed(data):
            while pending and not stream.eof and missing > -_INFLATE_STEP:
                missing -= len(stream.decompress(pending, _INFLATE_STEP))
                pending = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof and missing <= 0


def _compressed(data: bytes) -> Iterator[bytes]:
    position = len(_SIGNATURE)
    while position < len(data):
        name, end = _chunk(data, position)
        if name == b"IDAT":
            yield data[position + 8 : end - 4]
        position = end


def _chunk(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the name of the chunk at `position` and where it ends, be it behind the file."""
    length = int.from_bytes(data[position : position + 4], "big")
    return data[position + 4 : position + 8], position + 12 + length


def _inflated_size(header: bytes) -> int:
    """Return the bytes of all filtered rows, by an IHDR chunk."""
    width, height, depth, color, interlaced = struct.unpack_from(">IIBBxxB", header, 8)
    bits, size = depth * _SAMPLES.get(color, 0), 0
    for left, top, right, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -(-(width - left) // right)), max(0, -(-(height - top) // down))
        size += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return size
