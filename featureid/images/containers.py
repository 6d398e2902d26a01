"""The structure of PNG, GIF, WebP, AVIF and HEIC files, checked before a decoder sees them.

So a cut file is told from a whole one.  Where a function returns the part of a file that decides
its first picture, damaged metadata, text bombs and further frames never reach the decoder.
"""

from __future__ import annotations

import struct
import zlib

from featureid.images.failures import check_pixels, corrupt, truncated, unsupported

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})


def essential_png(data: bytes) -> tuple[bytes, bytes, int]:
    """Check the chunks of a PNG file and keep those that make the picture.

    Args:
        data: a file that begins with the PNG signature.

    Returns:
        A PNG of the critical chunks and ``tRNS`` (an animation becomes its default picture); the
        content of ``eXIf`` or b""; and the bits per sample.

    Raises:
        ImageError: ``truncated``, ``corrupt`` (a wrong checksum) or ``unsupported``.
    """
    kept, exif, position, name = [_PNG_SIGNATURE], b"", len(_PNG_SIGNATURE), b""
    view = memoryview(data)
    while name != b"IEND":
        if position + 12 > len(data):
            raise truncated(f"the PNG chunk after {name.decode('latin-1') or 'the signature'}")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise truncated(f"the PNG chunk {name!r}")
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        intact = zlib.crc32(view[position + 4 : end - 4]) == checksum
        if name in _PNG_CRITICAL or name == b"tRNS":
            if not intact:
                raise corrupt("PNG", f"checksum of the chunk {name!r}")
            kept.append(data[position:end])
        elif name == b"eXIf" and intact:
            exif = data[position + 8 : end - 4]
        elif not name[0] & 0x20:
            raise unsupported("PNG", f"the private critical chunk {name!r}")
        position = end
    if kept[1][4:8] != b"IHDR" or len(kept[1]) != 25:
        raise corrupt("PNG", "no IHDR chunk at its beginning")
    return b"".join(kept), exif, kept[1][16]


def first_gif_frame(data: bytes, max_pixels: int) -> bytes:
    """Return a GIF file of the first frame alone, checked to be complete.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    try:
        position, canvas = 13, struct.unpack_from("<HH", data, 6)
        position += _color_table_size(data[10])
        while data[position] == 0x21:
            position = _end_of_blocks(data, position + 2)
        if data[position] != 0x2C:
            raise corrupt("GIF", f"block {data[position]:#x} where a picture should be")
        left, top, width, height, flags = struct.unpack_from("<4HB", data, position + 1)
        end = _end_of_blocks(data, position + 11 + _color_table_size(flags))
    except (IndexError, struct.error) as error:
        raise truncated("the first GIF frame") from error
    # A frame may lie outside its canvas; like browsers, Pillow then enlarges the canvas.
    size = max(canvas[0], left + width), max(canvas[1], top + height)
    check_pixels(*size, max_pixels)
    return data[:6] + struct.pack("<HH", *size) + data[10:end] + b";"


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
        raise truncated("the WebP picture")
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

    Raises:
        ImageError: ``truncated`` or ``corrupt``.
    """
    position = 0
    while position < len(data):
        header = data[position : position + 16]
        size = int.from_bytes(header[:4], "big")
        if len(header) < 8:
            raise truncated(f"the {kind} picture")
        if size == 0:
            return  # reaches to the end of the file, wherever that is
        if size == 1:
            size = int.from_bytes(header[8:16], "big")
        if size < 8 and len(header) == 16:
            raise corrupt(kind, f"box {header[4:8]!r} of {size} bytes")
        if position + size > len(data):
            raise truncated(f"the {kind} picture")
        position += size
