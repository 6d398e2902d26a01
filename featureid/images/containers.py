"""The structure of PNG, GIF, WebP, AVIF and HEIC files, checked before a decoder sees them.

This distinguishes a truncated file from a complete one. Some functions return only the part of a
file that decides its first image: damaged metadata, text bombs and further frames never reach the
decoder.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from featureid.images.failures import check_pixels, corrupt, truncated, unsupported

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
_INFLATE_STEP = 1 << 20
# Bytes: four channels of 16 bits, and with one column a filter type for each pixel.
_MAX_PNG_PIXEL = 9
# What a file needs, and what may come before, between and behind (ISO/IEC 14496-12 and 23008-12).
_KNOWN_BOXES = frozenset(
    {b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"mfra", b"free", b"skip", b"wide", b"uuid"}
    | {b"pdin", b"styp", b"sidx", b"jumb", b"mpvd", b"idat", b"grpl", b"etyp"}
)


def essential_png(data: bytes, max_pixels: int) -> tuple[bytes, bytes, int]:
    """Check the chunks of a PNG file and keep those that decide the image.

    A missing or damaged end chunk is replaced if the compressed pixels before it are complete.

    Args:
        data: a file that begins with the PNG signature.
        max_pixels: the limit for the pixels of the image.

    Returns:
        A PNG of the critical chunks and ``tRNS`` (an animation becomes its default image); the
        content of ``eXIf`` or b""; and the bits per sample.

    Raises:
        ImageError: ``truncated``, ``corrupt`` (a wrong checksum), ``too-many-pixels`` or
            ``unsupported``.
    """
    kept, exif, position, name = [_PNG_SIGNATURE], b"", len(_PNG_SIGNATURE), b""
    while True:
        previous, (name, end) = name, _png_chunk(data, position)
        if name == b"IEND":
            break
        if end > len(data):
            if _png_pixels_are_complete(kept, max_pixels):
                break
            raise truncated(f"the PNG chunk after {previous.decode('latin-1') or 'the signature'}")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        intact = zlib.crc32(memoryview(data)[position + 4 : end - 4]) == checksum
        if name in _PNG_CRITICAL or name == b"tRNS":
            if not intact:
                raise corrupt("PNG", f"checksum of the chunk {name!r}")
            kept.append(data[position:end])
        elif name == b"eXIf" and intact:
            exif = data[position + 8 : end - 4]
        elif not name[0] & 0x20:
            raise unsupported("PNG", f"the private critical chunk {name!r}")
        position = end
    _png_size(kept)
    return b"".join((*kept, _PNG_END)), exif, kept[1][16]


def _png_chunk(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the name of the chunk at `position` and where it ends, be it behind the file."""
    length = int.from_bytes(data[position : position + 4], "big")
    return data[position + 4 : position + 8], position + 12 + length


def _png_size(chunks: list[bytes]) -> tuple[int, int]:
    """Return the (width, height) that the chunk after the signature states."""
    if len(chunks) < 2 or chunks[1][4:8] != b"IHDR" or len(chunks[1]) != 25:
        raise corrupt("PNG", "no IHDR chunk at its beginning")
    width, height = struct.unpack_from(">II", chunks[1], 8)
    return width, height


def _png_pixels_are_complete(chunks: list[bytes], max_pixels: int) -> bool:
    """Return whether the IDAT chunks hold all pixels: a whole zlib stream, which is not kept."""
    compressed = [chunk[8:-4] for chunk in chunks if chunk[4:8] == b"IDAT"]
    if not compressed:
        return False
    width, height = _png_size(chunks)
    check_pixels(width, height, max_pixels)
    stream, room = zlib.decompressobj(), _MAX_PNG_PIXEL * width * height + _INFLATE_STEP
    try:
        for pending in compressed:
            while pending and not stream.eof:
                room -= len(stream.decompress(pending, _INFLATE_STEP))
                if room < 0:
                    return False
                pending = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


@dataclass(frozen=True)
class GifFrame:
    """The first frame of a GIF file.

    Attributes:
        data: a GIF file of this frame alone, without a canvas around it.
        left: column of the canvas at which it belongs.
        top: row of the canvas at which it belongs.
        canvas: (width, height) of the canvas.
    """

    data: bytes
    left: int
    top: int
    canvas: tuple[int, int]


def first_gif_frame(data: bytes, max_pixels: int) -> GifFrame:
    """Return the first frame of a GIF file, checked to be complete.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    try:
        position, canvas = 13, struct.unpack_from("<HH", data, 6)
        position += _color_table_size(data[10])
        while data[position] == 0x21:
            position = _end_of_blocks(data, position + 2)
        if data[position] != 0x2C:
            raise corrupt("GIF", f"block {data[position]:#x} where an image should be")
        left, top, width, height, flags = struct.unpack_from("<4HB", data, position + 1)
        end = _end_of_blocks(data, position + 11 + _color_table_size(flags))
    except (IndexError, struct.error) as error:
        raise truncated("the first GIF frame") from error
    # A frame may lie outside its canvas; browsers then enlarge the canvas.
    size = max(canvas[0], left + width), max(canvas[1], top + height)
    check_pixels(*size, max_pixels)
    own_size = struct.pack("<HH", width, height)
    screen = data[:6] + own_size + data[10:position]
    image = b",\0\0\0\0" + own_size + data[position + 9 : end]
    return GifFrame(screen + image + b";", left, top, size)


def _color_table_size(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _end_of_blocks(data: bytes, position: int) -> int:
    """Return where a GIF chain of sub-blocks ends; IndexError if the data ends before."""
    while data[position]:
        position += 1 + data[position]
    return position + 1


def check_webp(data: bytes, max_pixels: int) -> None:
    """Check that a WebP file is whole and not too large; the decoder allocates when it opens one.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise truncated("the WebP image")
    kind, bits = data[12:16], int.from_bytes(data[20:30], "little")
    if kind == b"VP8X":
        width, height = 1 + (bits >> 32 & 0xFFFFFF), 1 + (bits >> 56 & 0xFFFFFF)
    elif kind == b"VP8L":
        width, height = 1 + (bits >> 8 & 0x3FFF), 1 + (bits >> 22 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = bits >> 48 & 0x3FFF, bits >> 64 & 0x3FFF
    else:
        raise corrupt("WebP", f"first chunk {kind!r}")
    check_pixels(width, height, max_pixels)


def check_boxes(data: bytes, kind: str) -> None:
    """Check that the top-level boxes of an AVIF or HEIC file are whole (ISO/IEC 14496-12, 4.2).

    Bytes behind the boxes are accepted: cameras append videos and notes of their own.

    Raises:
        ImageError: ``truncated`` or ``corrupt``.
    """
    position, has_data = 0, False
    while position < len(data):
        header = data[position : position + 16]
        size, name = int.from_bytes(header[:4], "big"), header[4:8]
        if len(header) < 8 and not has_data:
            raise truncated(f"the {kind} image")
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        fits = 8 <= size <= len(data) - position
        if size == 0 or (not fits and name not in _KNOWN_BOXES):
            return  # a last box without a stated end, or no box
        if size < 8 and len(header) == 16:
            raise corrupt(kind, f"box {name!r} of {size} bytes")
        if not fits:
            raise truncated(f"the {kind} image")
        has_data = has_data or name == b"mdat"
        position += size
    if not has_data and b"idat" not in data:
        raise truncated(f"the {kind} image")
