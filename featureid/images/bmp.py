"""BMP files that Pillow decodes wrongly, rewritten."""

from __future__ import annotations

import struct

from featureid.images.failures import check_pixels, corrupt, truncated, unsupported

# Offsets in a file whose header is one of BITMAPINFOHEADER or longer (BITMAPV4HEADER and so on).
_PIXEL_OFFSET, _HEADER_SIZE, _SIZE, _BITS, _COMPRESSION, _COLORS = 10, 14, 18, 28, 30, 46
_INFO_HEADER = 40
_UNCOMPRESSED, _RLE8, _RLE4 = 0, 1, 2
_END_OF_LINE, _END_OF_IMAGE, _DELTA = 0, 1, 2


def decodable_bmp(data: bytes, max_pixels: int) -> bytes:
    """Return a BMP file in a form that Pillow decodes correctly.

    Args:
        data: a file that begins with ``BM`` and a known size of its header.
        max_pixels: the limit for the pixels of the image.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    if len(data) < _HEADER_SIZE + _INFO_HEADER or _number(data, _HEADER_SIZE) < _INFO_HEADER:
        return data
    compression, (bits,) = _number(data, _COMPRESSION), struct.unpack_from("<H", data, _BITS)
    if (compression, bits) in ((_RLE8, 8), (_RLE4, 4)):
        data, bits = _without_run_lengths(data, bits, max_pixels), 8
    if bits in (4, 8) and _number(data, _COLORS) == 2:
        # Pillow takes a table of black and white for an image of 1 bit per pixel. Declare a third
        # color, which no pixel has.
        return data[:_COLORS] + b"\3" + data[_COLORS + 1 :]
    return data


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _without_run_lengths(data: bytes, bits: int, max_pixels: int) -> bytes:
    """Return an uncompressed BMP of 8 bits per pixel, made from a run-length encoded one.

    Pillow reads one byte too few of an odd number of 4-bit pixels, and lets rows move if one is
    empty.
    """
    width, height = struct.unpack_from("<ii", data, _SIZE)
    start = _number(data, _PIXEL_OFFSET)
    if height < 0:
        raise unsupported("BMP", "compressed rows from top to bottom")
    if width < 1 or not height or start < _HEADER_SIZE + _INFO_HEADER:
        raise corrupt("BMP", f"{width} x {height} compressed pixels at byte {start}")
    check_pixels(width, height, max_pixels)
    pixels = _decoded_runs(memoryview(data)[start:], bits, width, height)
    padding = bytes(-width % 4)
    rows = (pixels[at : at + width] + padding for at in range(0, len(pixels), width))
    header = bytearray(data[:start])
    struct.pack_into("<HI", header, _BITS, 8, _UNCOMPRESSED)
    struct.pack_into("<I", header, _COLORS, _number(data, _COLORS) or 1 << bits)
    return b"".join((header, *rows))


def _decoded_runs(data: memoryview, bits: int, width: int, height: int) -> bytes:
    """Return the color of each pixel, a byte each, from the bottom row to the top one."""
    pixels, written, at, x, y = bytearray(width * height), 0, 0, 0, 0
    while written < len(pixels) and y < height:
        if at + 2 > len(data):
            raise truncated("the BMP image")
        count, value = data[at : at + 2]
        at += 2
        if count:
            colors = bytes((value,)) if bits == 8 else bytes((value >> 4, value & 15))
            run = (colors * count)[:count]
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
            continue
        elif value == _END_OF_IMAGE:
            break
        elif value == _DELTA:
            if at + 2 > len(data):
                raise truncated("the BMP image")
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:
            size = (value * bits + 7) // 8
            run = _literal(data[at : at + size], bits)[:value]
            if len(run) < value:
                raise truncated("the BMP image")
            at += size + size % 2
        run = run[: max(0, width - x)]
        place = y * width + x
        pixels[place : place + len(run)] = run
        x, written = x + len(run), written + len(run)
    if written < len(pixels):
        raise unsupported("BMP", "pixels left out by its compression")
    return bytes(pixels)


def _literal(data: memoryview, bits: int) -> bytes:
    if bits == 8:
        return bytes(data)
    return bytes(half for byte in data for half in (byte >> 4, byte & 15))
