"""Strips and tiles of TIFF files that are decoded here, not by libtiff.

For JPEG and fax compression libtiff takes damage for no more than a warning, which Pillow drops,
and leaves the rows that it does not find as they were in memory: other pixels in each run, and
bytes of other images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.images.failures import corrupt, unsupported
from featureid.images.fax import FaxCoding, decode_fax
from featureid.images.jpeg import decode_samples, read_header
from featureid.images.tiff_directory import Directory, Tag
from featureid.images.tiff_page import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    FAX,
    JPEG,
    RGB,
    SEPARATED,
    UNASSOCIATED,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    YCBCR,
    Chunks,
    compression,
    number,
)

#: The compressions that are decoded here.
STRICT = FAX | {JPEG}

_Pixels = npt.NDArray[np.uint8]

_RIGHT_TO_LEFT = 2
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_MIXED, _UNCOMPRESSED_MODE = 1, 2
# Bytes: for each strip they are read again.
_MAX_TABLES = 1 << 14
_SOI, _EOI = b"\xff\xd8", b"\xff\xd9"
_APP0, _APP14 = 0xE0, 0xEE
# That the three components are what the last byte says, 0 for RGB and 1 for YCbCr: without it
# libjpeg guesses.
_ADOBE = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00"
# Photometric interpretation, samples per pixel and meaning of the first extra one to Pillow's mode.
_JPEG_MODES = {
    (WHITE_IS_ZERO, 1, UNSPECIFIED): "L",
    (BLACK_IS_ZERO, 1, UNSPECIFIED): "L",
    (RGB, 3, UNSPECIFIED): "RGB",
    (YCBCR, 3, UNSPECIFIED): "RGB",
    (SEPARATED, 4, UNSPECIFIED): "CMYK",
    (RGB, 4, UNSPECIFIED): "RGBX",
    (RGB, 4, ASSOCIATED): "RGBa",
    (RGB, 4, UNASSOCIATED): "RGBA",
}


# Rows: the last strip may be as high as the others, but those are rarely higher than this.
_MAX_EXCESS = 1 << 12


def strict_image(data: bytes, page: Directory, chunks: Chunks, max_pixels: int) -> Image.Image:
    """Return the image of a page, or of a single plane, of one of the compressions in `STRICT`.

    Args:
        data: the file.
        page: its directory.
        chunks: where its strips or tiles are.
        max_pixels: the limit for the pixels of a strip or tile.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    inverted = number(page, Tag.PHOTOMETRIC, 0) == WHITE_IS_ZERO
    if compression(page) == JPEG:
        mode, decode = _jpeg_mode(page), _jpeg_decoder(page, max_pixels)
    else:
        mode, decode = "L", _fax_decoder(page)
    width, height = number(page, Tag.WIDTH, 0), number(page, Tag.HEIGHT, 0)
    pixels = np.empty((height, width, len(Image.new(mode, (1, 1)).getbands())), np.uint8)
    for chunk, (left, top) in zip(_pieces(data, chunks), _places(page, chunks), strict=True):
        rows = chunks.rows if chunks.tiled else min(chunks.rows, height - top)
        part = decode(chunk, rows, chunks.columns)[: height - top, : width - left]
        pixels[top : top + len(part), left : left + part.shape[1]] = part[:, :, : pixels.shape[2]]
    if inverted:
        np.subtract(255, pixels, out=pixels)
    return Image.fromarray(pixels[:, :, 0] if mode == "L" else pixels, mode)


def _pieces(data: bytes, chunks: Chunks) -> Iterator[bytes]:
    for offset, count in zip(chunks.offsets.tolist(), chunks.counts.tolist(), strict=True):
        yield data[offset : offset + count]


def _places(page: Directory, chunks: Chunks) -> Iterator[tuple[int, int]]:
    """Yield column and row of the top left pixel of each strip or tile."""
    for top in range(0, number(page, Tag.HEIGHT, 0), chunks.rows):
        for left in range(0, number(page, Tag.WIDTH, 0), chunks.columns):
            yield left, top


def _jpeg_mode(page: Directory) -> str:
    key = (
        number(page, Tag.PHOTOMETRIC, 0),
        number(page, Tag.SAMPLES, 1),
        number(page, Tag.EXTRA_SAMPLES, UNSPECIFIED),
    )
    if key not in _JPEG_MODES or number(page, Tag.BITS, 1) != 8:
        raise unsupported("TIFF", f"JPEG compression of {key[1]} samples, interpretation {key[0]}")
    return _JPEG_MODES[key]


def _jpeg_decoder(page: Directory, max_pixels: int) -> Callable[[bytes, int, int], _Pixels]:
    samples = number(page, Tag.SAMPLES, 1)
    adobe = _ADOBE + bytes([number(page, Tag.PHOTOMETRIC, 0) == YCBCR]) if samples == 3 else b""
    tables = bytes(page[Tag.JPEG_TABLES].raw) if Tag.JPEG_TABLES in page else b""
    tables = tables.removeprefix(_SOI).removesuffix(_EOI)
    if len(tables) > _MAX_TABLES:
        raise corrupt("TIFF", f"{len(tables):,} bytes of JPEG tables")

    def decode(chunk: bytes, rows: int, columns: int) -> _Pixels:
        jpeg = b"".join((_SOI, tables, chunk.removeprefix(_SOI)))
        header = read_header(jpeg)
        segments = [part for part in header.segments if part[1] not in (_APP0, _APP14)]
        jpeg = b"".join((_SOI, adobe, *segments, jpeg[header.scan_start :]))
        header = read_header(jpeg)
        fits = header.width == columns and rows <= header.height < rows + _MAX_EXCESS
        if header.components != samples or not fits:
            size = f"{header.width} x {header.height} pixels"
            raise corrupt("TIFF", f"a JPEG strip of {size} where {columns} x {rows} belong")
        return decode_samples(jpeg, header, header.height, header.width, max_pixels)

    return decode


def _fax_decoder(page: Directory) -> Callable[[bytes, int, int], _Pixels]:
    if number(page, Tag.BITS, 1) != 1 or number(page, Tag.SAMPLES, 1) != 1:
        raise unsupported("TIFF", "fax compression of more than 1 bit per pixel")
    group = compression(page)
    options = number(page, Tag.FAX3_OPTIONS if group == 3 else Tag.FAX4_OPTIONS, 0)
    if options & _UNCOMPRESSED_MODE:
        raise unsupported("TIFF", "uncompressed fax rows")
    coding = FaxCoding(group, mixed=group == 3 and bool(options & _MIXED))
    is_reversed = number(page, Tag.FILL_ORDER, 1) == _RIGHT_TO_LEFT

    def decode(chunk: bytes, rows: int, columns: int) -> _Pixels:
        chunk = chunk.translate(_REVERSED) if is_reversed else chunk
        return decode_fax(chunk, columns, rows, coding)[:, :, None] * np.uint8(255)

    return decode
