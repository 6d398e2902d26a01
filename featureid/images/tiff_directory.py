"""The directories of a TIFF or BigTIFF file (TIFF 6.0, section 2), read and written."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from featureid.images.failures import corrupt, truncated, unsupported

_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_TYPE_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_SHORT, _LONG = 3, 4
_BIG_TYPES = frozenset({16, 18})
_LARGEST_LONG = (1 << 32) - 1
# So that a directory behind the data has an offset of 32 bits.
_MAX_BYTES = _LARGEST_LONG - (1 << 24)
# Writers use some 20 to 100.
_MAX_ENTRIES = 1 << 12


class Tag(IntEnum):
    """The tags that decide which page a viewer shows and how."""

    NEW_SUBFILE_TYPE = 254
    SUBFILE_TYPE = 255
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    STRIP_OFFSETS = 273
    ORIENTATION = 274
    SAMPLES = 277
    ROWS_PER_STRIP = 278
    STRIP_COUNTS = 279
    PLANAR = 284
    FAX3_OPTIONS = 292
    FAX4_OPTIONS = 293
    PREDICTOR = 317
    COLOR_MAP = 320
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILE_OFFSETS = 324
    TILE_COUNTS = 325
    SUB_DIRECTORIES = 330
    INK_SET = 332
    NUMBER_OF_INKS = 334
    EXTRA_SAMPLES = 338
    SAMPLE_FORMAT = 339
    JPEG_TABLES = 347
    JPEG_START = 513
    JPEG_LENGTH = 514
    YCBCR_COEFFICIENTS = 529
    YCBCR_SUBSAMPLING = 530
    YCBCR_POSITIONING = 531
    REFERENCE_BLACK_WHITE = 532
    DNG_VERSION = 50706


_SINGLE = frozenset(
    {Tag.NEW_SUBFILE_TYPE, Tag.SUBFILE_TYPE, Tag.WIDTH, Tag.HEIGHT, Tag.COMPRESSION}
    | {Tag.PHOTOMETRIC, Tag.FILL_ORDER, Tag.ORIENTATION, Tag.SAMPLES, Tag.ROWS_PER_STRIP}
    | {Tag.PLANAR, Tag.FAX3_OPTIONS, Tag.FAX4_OPTIONS, Tag.PREDICTOR}
    | {Tag.TILE_WIDTH, Tag.TILE_HEIGHT, Tag.JPEG_START, Tag.JPEG_LENGTH}
)


@dataclass(frozen=True)
class Field:
    """The values of a tag.

    Attributes:
        kind: the number of their type.
        count: how many there are.
        raw: the values as bytes, a view of the file or bytes of their own.
        order: the byte order of the file, ``<`` or ``>``.
    """

    kind: int
    count: int
    raw: memoryview
    order: str

    def integers(self, limit: int | None = None) -> npt.NDArray[np.uint64]:
        """Return the first `limit` values, or all; none if they are not unsigned integers."""
        if self.kind not in _INTEGERS:
            return np.empty(0, np.uint64)
        values = np.frombuffer(self.raw, self.order + _INTEGERS[self.kind])
        return values[:limit].astype(np.uint64)


Directory = dict[Tag, Field]
_TAGS = frozenset(Tag)


class TiffReader:
    """Reads and writes the directories of one file.

    Args:
        data: the whole file, beginning with the signature of TIFF or BigTIFF.

    Attributes:
        first: the offset of its first directory.
    """

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = data[2:4] in (b"+\0", b"\0+")
        self._word = "Q" if self._big else "I"
        if len(data) > _MAX_BYTES:
            raise unsupported("TIFF", "4 GiB or more")
        (self.first,) = self._unpack(self._word, 8 if self._big else 4)

    def read(self, start: int) -> tuple[Directory, int]:
        """Return the directory at an offset, and the offset of the next or 0.

        Raises:
            ImageError: ``truncated`` or ``corrupt``.
        """
        (count,) = self._unpack("Q" if self._big else "H", start)
        entry_size = 20 if self._big else 12
        begin = start + (8 if self._big else 2)
        end = begin + count * entry_size
        if end > len(self.data):
            raise truncated("the TIFF directory")
        if count > _MAX_ENTRIES:
            raise corrupt("TIFF", f"{count} tags")
        directory: Directory = {}
        for at in range(begin, end, entry_size):
            (tag,) = self._unpack("H", at)
            if tag in _TAGS and tag not in directory:  # as libtiff, which ignores repeated tags
                directory[Tag(tag)] = self._field(tag, at)
        # Some writers leave out the offset of the next directory.
        following = self.data[end : end + struct.calcsize("=" + self._word)]
        return directory, int.from_bytes(following, "little" if self._order == "<" else "big")

    def _field(self, tag: int, at: int) -> Field:
        kind, count = self._unpack("H" + self._word, at + 2)
        if kind not in _TYPE_SIZES or not count or (tag in _SINGLE and count != 1):
            raise corrupt("TIFF", f"tag {tag} of type {kind} with {count} values")
        inline = struct.calcsize("=" + self._word)
        place, size = at + 4 + inline, count * _TYPE_SIZES[kind]
        if size > inline:
            (place,) = self._unpack(self._word, place)
        if place + size > len(self.data):
            raise truncated(f"the values of TIFF tag {tag}")
        return Field(kind, count, memoryview(self.data)[place : place + size], self._order)

    def _unpack(self, format_: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + format_, self.data, at)
        except (struct.error, OverflowError) as error:  # an offset past any file
            raise truncated("the TIFF directory") from error

    def field(self, values: npt.ArrayLike) -> Field:
        """Return a field of unsigned integers, of 16 bits if all are that small, else of 32."""
        numbers = np.minimum(np.asarray(values, np.uint64).ravel(), _LARGEST_LONG)
        kind = _SHORT if numbers.max(initial=0) < 1 << 16 else _LONG
        raw = numbers.astype(self._order + _INTEGERS[kind]).tobytes()
        return Field(kind, len(numbers), memoryview(raw), self._order)

    def with_only(self, directory: Directory) -> bytes:
        """Return the file, as classic TIFF, with `directory` as its only one.

        Damaged metadata and further pages are then out of reach, and big-endian BigTIFF is none.
        """
        start = len(self.data) + len(self.data) % 2
        place = start + 2 + 12 * len(directory) + 4
        entries: list[bytes] = []
        tail: list[bytes | memoryview] = []
        for tag, field in sorted(directory.items()):
            if field.kind in _BIG_TYPES:
                field = self.field(field.integers())
            entry = struct.pack(self._order + "HHI", tag, field.kind, field.count)
            size = len(field.raw)
            if size > 4:
                tail += [field.raw, bytes(size % 2)]
                entries.append(entry + struct.pack(self._order + "I", place))
                place += size + size % 2
            else:
                entries.append(entry + bytes(field.raw).ljust(4, b"\0"))
        mark = struct.pack(self._order + "HI", 42, start)
        count = struct.pack(self._order + "H", len(entries))
        rest, padding = memoryview(self.data)[8:], bytes(start - len(self.data))
        return b"".join((self.data[:2], mark, rest, padding, count, *entries, bytes(4), *tail))
