"""The page of a TIFF file that a viewer shows, completed and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from featureid.errors import ImageError
from featureid.images.failures import check_pixels, corrupt, truncated, unsupported
from featureid.images.tiff_directory import Directory, Tag, TiffReader

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, SEPARATED, YCBCR = 0, 1, 2, 5, 6
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
OLD_JPEG, JPEG = 6, 7
FAX = frozenset({2, 3, 4})
_UNCOMPRESSED = 1
# What Pillow's wheels decode; the others are LZW, Deflate (two numbers), PackBits, LZMA, Zstandard.
_DECODED = frozenset({_UNCOMPRESSED, *FAX, OLD_JPEG, JPEG, 5, 8, 32946, 32773, 34925, 50000})
_OTHERS = {34712: "JPEG 2000", 34887: "LERC", 34933: "PNG", 50001: "WebP", 50002: "JPEG XL"}
_RAW_PHOTOMETRICS = frozenset({32803, 34892})
_MAX_DIRECTORIES = 32
_REDUCED_OR_MASK = 1 | 4
_OLD_REDUCED = 2
_SEPARATE_PLANES = 2
_SIGNED = 2
_CMYK = 1
_DEEP_BITS = 16
_SHAPE = b'{"shape": [3, '
# A color map of 8 bits, and how it becomes one of 16.
_SMALL_COLORS, _TO_16_BITS = 256, 257
_MAX_COLORS = 3 << 16

# Strips or tiles of a page: 64 megapixels in tiles of 32 x 32 are 65,536.  For each, decoders need
# some 16 us and 1 KB; strips of one uncompressed row that follow each other are taken for one.
_MAX_CHUNKS, _MAX_LISTED = 1 << 17, 1 << 20
# Bytes: some writers let equal tiles share their bytes.
_MAX_SHARED = 1 << 26

Numbers = npt.NDArray[np.uint64]
_NO_NUMBERS = np.empty(0, np.uint64)


def number(page: Directory, tag: Tag, default: int) -> int:
    """Return the first value of a tag, or `default` if it is absent or not an integer."""
    values = page[tag].integers(1) if tag in page else _NO_NUMBERS
    return int(values[0]) if len(values) else default


def compression(page: Directory) -> int:
    """Return the number of the compression."""
    return number(page, Tag.COMPRESSION, _UNCOMPRESSED)


def has_planes(page: Directory) -> bool:
    """Return whether each sample has strips or tiles of its own."""
    return number(page, Tag.PLANAR, 1) == _SEPARATE_PLANES and number(page, Tag.SAMPLES, 1) > 1


def shown_page(reader: TiffReader) -> Directory:
    """Return the first full-size page.

    A thumbnail may come first, and the full image in the next directory or below (SubIFDs).

    Raises:
        ImageError: ``unsupported`` for camera raw and if all pages are thumbnails; ``truncated``
            or ``corrupt``.
    """
    seen: list[Directory] = []
    for pages in _page_groups(reader):
        if reader.data[8:10] == b"CR" or any(map(_is_raw, pages)):
            raise unsupported("TIFF", "data of a camera's sensor (camera raw)")
        full = [page for page in pages if _is_full(page)]
        if full:
            return max(full, key=_area)
        seen += pages
    if len(seen) != 1:
        raise unsupported("TIFF", "nothing but thumbnails")
    return seen[0]


def _page_groups(reader: TiffReader) -> Iterator[list[Directory]]:
    """Yield each page with those below it."""
    start, known = reader.first, set[int]()
    while start and start not in known and len(known) < _MAX_DIRECTORIES:
        known.add(start)
        page, start = reader.read(start)
        pages, below = [page], page.get(Tag.SUB_DIRECTORIES)
        try:
            for offset in below.integers(_MAX_DIRECTORIES) if below else ():
                known.add(int(offset))
                pages.append(reader.read(int(offset))[0])
        except ImageError:
            if not _is_full(page):
                raise
        yield pages


def _is_raw(page: Directory) -> bool:
    return number(page, Tag.PHOTOMETRIC, 0) in _RAW_PHOTOMETRICS or Tag.DNG_VERSION in page


def _is_full(page: Directory) -> bool:
    if Tag.NEW_SUBFILE_TYPE in page:
        return not number(page, Tag.NEW_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
    return number(page, Tag.SUBFILE_TYPE, 1) != _OLD_REDUCED


def _area(page: Directory) -> int:
    return number(page, Tag.WIDTH, 0) * number(page, Tag.HEIGHT, 0)


def completed(page: Directory, reader: TiffReader) -> Directory:
    """Return a page with what some writers leave out or get wrong, read as libtiff reads it."""
    page = page.copy()
    if Tag.SAMPLES not in page:
        page[Tag.SAMPLES] = reader.field(page[Tag.BITS].count if Tag.BITS in page else 1)
    if not has_planes(page):
        page[Tag.PLANAR] = reader.field(1)  # Pillow misreads a single plane of 16 bits
    if Tag.PHOTOMETRIC not in page:
        gray = WHITE_IS_ZERO if compression(page) in FAX else BLACK_IS_ZERO
        page[Tag.PHOTOMETRIC] = reader.field(gray if number(page, Tag.SAMPLES, 1) < 3 else RGB)
    if Tag.TILE_OFFSETS not in page and number(page, Tag.ROWS_PER_STRIP, 0) == 0:
        page[Tag.ROWS_PER_STRIP] = reader.field(number(page, Tag.HEIGHT, 0))
    if Tag.COLOR_MAP in page:
        colors = page[Tag.COLOR_MAP].integers(_MAX_COLORS)
        if colors.max(initial=0) < _SMALL_COLORS:
            page[Tag.COLOR_MAP] = reader.field(colors * _TO_16_BITS)
    return page


def check_decodable(page: Directory, max_pixels: int) -> None:
    """Refuse a page that is too large, or that Pillow cannot decode or decodes wrongly.

    Raises:
        ImageError: ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    width, height = number(page, Tag.WIDTH, 0), number(page, Tag.HEIGHT, 0)
    if not width or not height:
        raise corrupt("TIFF", f"size {width} x {height}")
    check_pixels(width, height, max_pixels)
    if compression(page) not in _DECODED:
        name = _OTHERS.get(compression(page), f"number {compression(page)}")
        raise unsupported("TIFF", f"compression {name}")
    if Tag.SAMPLE_FORMAT in page and _SIGNED in page[Tag.SAMPLE_FORMAT].integers(8):
        raise unsupported("TIFF", "signed samples")
    if number(page, Tag.PHOTOMETRIC, 0) == YCBCR and compression(page) == _UNCOMPRESSED:
        raise unsupported("TIFF", "uncompressed YCbCr colors")
    if number(page, Tag.PHOTOMETRIC, 0) == SEPARATED and number(page, Tag.INK_SET, 1) != _CMYK:
        raise unsupported("TIFF", "other inks than CMYK")
    is_wide = number(page, Tag.BITS, 1) > _DEEP_BITS
    if is_wide and compression(page) != _UNCOMPRESSED and page[Tag.BITS].order == ">":
        raise unsupported("TIFF", "compressed big-endian samples of more than 16 bits")
    if _may_be_slices(page):
        raise unsupported(
            "TIFF", "three 16-bit planes, which may be colors or the slices of a stack"
        )


def _may_be_slices(page: Directory) -> bool:
    """Return whether a page is what tifffile writes by default for a uint16 array of (3, h, w).

    It calls the planes red, green and blue whatever they are; slices of a volume are not colors.
    """
    is_deep = has_planes(page) and number(page, Tag.BITS, 1) == _DEEP_BITS
    has_shape = Tag.DESCRIPTION in page and page[Tag.DESCRIPTION].raw[: len(_SHAPE)] == _SHAPE
    return is_deep and has_shape and compression(page) == _UNCOMPRESSED


@dataclass(frozen=True)
class Chunks:
    """Where the strips or tiles of a page are.

    Attributes:
        offsets: uint64 (n,), in the order of the file format, plane by plane.
        counts: uint64 (n,), their lengths in bytes.
        in_plane: how many of them make a plane, or the page if it has no planes.
        tiled: whether they are tiles.
        rows: of a strip or tile; the last strip may have fewer.
        columns: of a strip or tile.
    """

    offsets: Numbers
    counts: Numbers
    in_plane: int
    tiled: bool
    rows: int
    columns: int

    def of_plane(self, plane: int) -> Chunks:
        """Return those of one plane."""
        part = slice(plane * self.in_plane, (plane + 1) * self.in_plane)
        return replace(self, offsets=self.offsets[part], counts=self.counts[part])

    def joined(self, height: int) -> Chunks:
        """Return one strip of `height` rows for each plane, if its strips follow each other."""
        offsets = self.offsets.reshape(-1, self.in_plane)
        counts = self.counts.reshape(-1, self.in_plane)
        if (offsets[:, :-1] + counts[:, :-1] != offsets[:, 1:]).any():
            return self
        return Chunks(offsets[:, 0], counts.sum(axis=1), 1, False, height, self.columns)


def checked_chunks(page: Directory, size: int, max_pixels: int) -> Chunks:
    """Return the strips or tiles of a page, all of which must be in a file of `size` bytes.

    Decoders leave the place of a missing one black.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    width, height = number(page, Tag.WIDTH, 0), number(page, Tag.HEIGHT, 0)
    tiled = Tag.TILE_OFFSETS in page
    columns = number(page, Tag.TILE_WIDTH, 0) if tiled else width
    rows = number(page, Tag.TILE_HEIGHT, 0) if tiled else number(page, Tag.ROWS_PER_STRIP, height)
    rows = rows if tiled else min(rows, height)
    if not rows or not columns:
        raise corrupt("TIFF", f"tiles of {columns} x {rows} pixels")
    check_pixels(columns, rows, max_pixels)
    down = -(-height // rows)
    in_plane = -(-width // columns) * down
    total = in_plane * (number(page, Tag.SAMPLES, 1) if has_planes(page) else 1)
    if total > _MAX_LISTED:
        raise unsupported("TIFF", f"{total:,} strips or tiles")
    offsets = _listed(page, Tag.TILE_OFFSETS if tiled else Tag.STRIP_OFFSETS, total)
    if compression(page) == _UNCOMPRESSED:
        # The stated lengths are often wrong in such files, and Pillow computes its own.
        row = min(_row_bytes(page, columns), size + 1)
        counts = np.full(total, row * rows, np.uint64)
        if not tiled:
            counts[in_plane - 1 :: in_plane] = row * (height - rows * (down - 1))
    else:
        counts = _listed(page, Tag.TILE_COUNTS if tiled else Tag.STRIP_COUNTS, total)
    if (offsets > size).any() or (counts > size - np.minimum(offsets, size)).any():
        raise truncated("the TIFF image")
    if compression(page) != _UNCOMPRESSED and counts.sum() > size + _MAX_SHARED:
        raise corrupt("TIFF", "strips or tiles of more bytes than the file has")
    chunks = Chunks(offsets, counts, in_plane, tiled, rows, columns)
    if compression(page) == _UNCOMPRESSED and not tiled:
        chunks = chunks.joined(height)
    if len(chunks.offsets) > _MAX_CHUNKS:
        raise unsupported("TIFF", f"{total:,} strips or tiles")
    return chunks


def _listed(page: Directory, tag: Tag, count: int) -> Numbers:
    """Return the first `count` values of a tag."""
    values = page[tag].integers(count) if tag in page else _NO_NUMBERS
    if len(values) < count:
        raise corrupt("TIFF", f"{len(values)} of {count} {tag.name.lower().replace('_', ' ')}")
    return values


def _row_bytes(page: Directory, columns: int) -> int:
    samples = 1 if has_planes(page) else number(page, Tag.SAMPLES, 1)
    return (columns * samples * number(page, Tag.BITS, 1) + 7) // 8
