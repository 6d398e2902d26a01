"""TIFF: the page that a viewer shows, decoded by Pillow.

Pages reach Pillow in a directory of their own that holds only essential tags, so that it meets
neither damaged metadata (it would warn) nor further pages.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.images.failures import corrupt, truncated, unsupported
from featureid.images.jpeg import decode_jpeg
from featureid.images.plugins import load_image
from featureid.images.rgb import to_gray, to_rgb
from featureid.images.tiff_directory import Directory, Tag, TiffReader
from featureid.images.tiff_page import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    OLD_JPEG,
    RGB,
    SEPARATED,
    UNASSOCIATED,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    Chunks,
    check_decodable,
    checked_chunks,
    completed,
    compression,
    has_planes,
    number,
    shown_page,
)
from featureid.images.tiff_strict import STRICT, strict_image

# The orientation is left out: it is applied here, not by Pillow.
_FOR_PILLOW = frozenset(
    {Tag.WIDTH, Tag.HEIGHT, Tag.BITS, Tag.COMPRESSION, Tag.PHOTOMETRIC, Tag.FILL_ORDER, Tag.SAMPLES}
    | {Tag.ROWS_PER_STRIP, Tag.PLANAR, Tag.PREDICTOR}
    | {Tag.COLOR_MAP, Tag.TILE_WIDTH, Tag.TILE_HEIGHT, Tag.INK_SET, Tag.NUMBER_OF_INKS}
    | {Tag.EXTRA_SAMPLES, Tag.SAMPLE_FORMAT, Tag.YCBCR_COEFFICIENTS}
    | {Tag.YCBCR_SUBSAMPLING, Tag.YCBCR_POSITIONING, Tag.REFERENCE_BLACK_WHITE}
)
# Photometric interpretation and meaning of the first extra sample, if any, to Pillow's mode.
_PLANE_MODES = {
    (BLACK_IS_ZERO, UNSPECIFIED): "L",
    (BLACK_IS_ZERO, ASSOCIATED): "La",
    (BLACK_IS_ZERO, UNASSOCIATED): "LA",
    (RGB, UNSPECIFIED): "RGB",
    (RGB, ASSOCIATED): "RGBa",
    (RGB, UNASSOCIATED): "RGBA",
    (SEPARATED, UNSPECIFIED): "CMYK",
}
# Bytes; a color map for 16 bits has 393,216.
_MAX_FIELD = 1 << 20
_SOI = b"\xff\xd8"


def decode_tiff(data: bytes, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode the first full-size page of a TIFF or BigTIFF file.

    Args:
        data: the file.
        max_pixels: the limit for the pixels of the page.

    Returns:
        The pixels as stored, uint8 (h, w, 3) RGB, and the orientation, 1 to 8.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    reader = TiffReader(data)
    page = completed(shown_page(reader), reader)
    check_decodable(page, max_pixels)
    orientation = number(page, Tag.ORIENTATION, 1)
    if compression(page) == OLD_JPEG:
        pixels, _, _ = decode_jpeg(_old_jpeg(data, page), None, max_pixels)
    elif has_planes(page):
        pixels = _decode_planes(reader, page, max_pixels)
    else:
        pixels = _decode_page(reader, page, max_pixels)
    return pixels, orientation if 1 <= orientation <= 8 else 1


def _decode_page(reader: TiffReader, page: Directory, max_pixels: int) -> npt.NDArray[np.uint8]:
    chunks = checked_chunks(page, len(reader.data), max_pixels)
    bits, photometric = number(page, Tag.BITS, 1), number(page, Tag.PHOTOMETRIC, 0)
    extra = number(page, Tag.EXTRA_SAMPLES, UNSPECIFIED)
    if photometric == WHITE_IS_ZERO and bits > 8:
        # Pillow knows this in one byte order only, and then leaves the samples inverted.
        page = page | {Tag.PHOTOMETRIC: reader.field(BLACK_IS_ZERO)}
    is_gray_of_two = photometric == BLACK_IS_ZERO and number(page, Tag.SAMPLES, 1) == 2
    if is_gray_of_two:
        # Pillow knows no other meaning of the second sample than this.
        page = page | {Tag.EXTRA_SAMPLES: reader.field(UNASSOCIATED)}
    image = _load(reader, page, chunks, max_pixels)
    if is_gray_of_two and extra != UNASSOCIATED:
        gray, alpha = image.split()
        image = Image.merge("La", (gray, alpha)) if extra == ASSOCIATED else gray
    return to_rgb(image, "TIFF", bits=bits, white_is_zero=photometric == WHITE_IS_ZERO)


def _decode_planes(reader: TiffReader, page: Directory, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Decode each plane as a gray image: Pillow shows planes of more than 8 bits as noise."""
    chunks = checked_chunks(page, len(reader.data), max_pixels)
    key = number(page, Tag.PHOTOMETRIC, 0), number(page, Tag.EXTRA_SAMPLES, UNSPECIFIED)
    mode = _PLANE_MODES.get(key)
    if mode is None:
        raise unsupported("TIFF", f"planes of photometric interpretation {key[0]}")
    changes = {
        Tag.SAMPLES: reader.field(1),
        Tag.PLANAR: reader.field(1),
        Tag.PHOTOMETRIC: reader.field(BLACK_IS_ZERO),
        Tag.BITS: reader.field(number(page, Tag.BITS, 1)),
        Tag.SAMPLE_FORMAT: reader.field(number(page, Tag.SAMPLE_FORMAT, 1)),
    }
    plane = {tag: field for tag, field in page.items() if tag != Tag.EXTRA_SAMPLES} | changes
    bands = [
        _decode_plane(reader, plane, chunks.of_plane(band), max_pixels) for band in range(len(mode))
    ]
    return to_rgb(Image.merge(mode, bands), "TIFF")


def _decode_plane(
    reader: TiffReader, plane: Directory, chunks: Chunks, max_pixels: int
) -> Image.Image:
    image = _load(reader, plane, chunks, max_pixels)
    return Image.fromarray(to_gray(image, "TIFF", bits=number(plane, Tag.BITS, 1)))


def _load(reader: TiffReader, page: Directory, chunks: Chunks, max_pixels: int) -> Image.Image:
    """Return the image of a page, decoded strictly or loaded by Pillow from a file of this page."""
    if compression(page) in STRICT:
        return strict_image(reader.data, page, chunks, max_pixels)
    essential = {tag: field for tag, field in page.items() if tag in _FOR_PILLOW}
    if not chunks.tiled:
        essential[Tag.ROWS_PER_STRIP] = reader.field(chunks.rows)
    largest = max(essential.values(), key=lambda field: len(field.raw))
    if len(largest.raw) > _MAX_FIELD:
        raise corrupt("TIFF", f"{len(largest.raw):,} bytes of one tag")
    essential[Tag.TILE_OFFSETS if chunks.tiled else Tag.STRIP_OFFSETS] = reader.field(
        chunks.offsets
    )
    essential[Tag.TILE_COUNTS if chunks.tiled else Tag.STRIP_COUNTS] = reader.field(chunks.counts)
    return load_image(reader.with_only(essential), "TIFF", max_pixels)


def _old_jpeg(data: bytes, page: Directory) -> bytes:
    """Return the JPEG file of a page of "old-style" JPEG (TIFF Technical Note 2).

    It is either the only strip, or a file of its own that holds the strip, or its header is apart.
    """
    strips = page[Tag.STRIP_OFFSETS].count if Tag.STRIP_OFFSETS in page else 0
    if strips > 1 or Tag.TILE_OFFSETS in page:
        raise unsupported("TIFF", "old-style JPEG compression in several pieces")
    start = number(page, Tag.STRIP_OFFSETS, 0)
    end = start + number(page, Tag.STRIP_COUNTS, len(data) - start)
    head_start = number(page, Tag.JPEG_START, start)
    head_end = head_start + number(page, Tag.JPEG_LENGTH, 0)
    if max(end, head_end) > len(data):
        raise truncated("the TIFF image")
    jpeg = data[start:end] if strips else b""
    if not jpeg.startswith(_SOI):
        jpeg = data[head_start:head_end] + (b"" if head_start <= start < head_end else jpeg)
    if not jpeg.startswith(_SOI):
        raise unsupported("TIFF", "old-style JPEG compression without a JPEG header")
    return jpeg
