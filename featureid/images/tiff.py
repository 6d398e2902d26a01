"""The first directory of a TIFF file, checked and reduced to what decides the picture."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from featureid.images.failures import corrupt, truncated

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _STRIP_COUNTS = 273, 274, 277, 278, 279
_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 284, 322, 323, 324, 325
_SINGLE = frozenset(
    {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP}
    | {_PLANAR, _TILE_WIDTH, _TILE_HEIGHT, 266, 292, 293, 317}
)
# Besides: colour map, ink, extra samples, sample format, JPEG tables, YCbCr and reference black.
# The orientation is left out: it is applied here, not by Pillow.
_KEPT = (
    _SINGLE
    | {_BITS, _STRIP_OFFSETS, _STRIP_COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
    | {320, 332, 334, 338, 339, 347, 529, 530, 531, 532}
) - {_ORIENTATION}
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
_INTEGERS = {1: "B", 3: "H", 4: "I", 16: "Q"}
_UNCOMPRESSED = 1
_SEPARATE_PLANES = 2


@dataclass(frozen=True)
class TiffPage:
    """The first page of a TIFF file.

    Attributes:
        data: the file with a directory of the essential tags alone, so that Pillow meets no
            damaged metadata (it would warn) and no further page.
        orientation: 1 to 8.
        bits: bits of the first sample.
        white_is_zero: whether 0 means white.
    """

    data: bytes
    orientation: int
    bits: int
    white_is_zero: bool


def first_tiff_page(data: bytes) -> TiffPage:
    """Read the first directory of a TIFF or BigTIFF file (TIFF 6.0, section 2).

    Raises:
        ImageError: ``truncated`` or ``corrupt``.
    """
    try:
        order = "<" if data[:2] == b"II" else ">"
        big = struct.unpack_from(order + "H", data, 2) == (43,)
        entries, values = _read_directory(data, order, big)
    except (struct.error, OverflowError) as error:  # an offset past any file
        raise truncated("the TIFF directory") from error
    _check_layout(values, len(data))
    orientation = values.get(_ORIENTATION, (1,))[0]
    return TiffPage(
        data=_with_directory(data, order, big, entries),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        bits=values.get(_BITS, (1,))[0],
        white_is_zero=values.get(_PHOTOMETRIC, (0,))[0] == 0,
    )


def _read_directory(
    data: bytes, order: str, big: bool
) -> tuple[list[bytes], dict[int, tuple[int, ...]]]:
    """Return the raw essential entries, in order, and the values of all that are integers."""
    word, entry_size, inline = ("Q", 20, 8) if big else ("I", 12, 4)
    (start,) = struct.unpack_from(order + word, data, 8 if big else 4)
    (count,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    first = start + (8 if big else 2)
    if first + count * entry_size > len(data):
        raise truncated("the TIFF directory")
    entries, values = [], {}
    for at in range(first, first + count * entry_size, entry_size):
        tag, kind, length = struct.unpack_from(order + "HH" + word, data, at)
        if tag not in _KEPT and tag != _ORIENTATION:
            continue
        if kind not in _TYPE_SIZES or not length or (tag in _SINGLE and length != 1):
            raise corrupt("TIFF", f"tag {tag} of type {kind} with {length} values")
        place = at + entry_size - inline
        if length * _TYPE_SIZES[kind] > inline:
            (place,) = struct.unpack_from(order + word, data, place)
        if place + length * _TYPE_SIZES[kind] > len(data):
            raise truncated(f"the values of TIFF tag {tag}")
        if kind in _INTEGERS:
            values[tag] = struct.unpack_from(f"{order}{length}{_INTEGERS[kind]}", data, place)
        if tag in _KEPT:
            entries.append(data[at : at + entry_size])
    return entries, values


def _check_layout(values: dict[int, tuple[int, ...]], size: int) -> None:
    """Refuse a page with missing strips or tiles, which decoders would leave black."""
    try:
        width, height = values[_WIDTH][0], values[_HEIGHT][0]
        tiled = _TILE_OFFSETS in values
        offsets = values[_TILE_OFFSETS if tiled else _STRIP_OFFSETS]
        columns = values[_TILE_WIDTH][0] if tiled else width
        rows = values[_TILE_HEIGHT][0] if tiled else values.get(_ROWS_PER_STRIP, (height,))[0]
        down = -(-height // rows)
        in_plane = -(-width // columns) * down
    except (KeyError, ZeroDivisionError) as error:
        raise corrupt("TIFF", f"no usable size or strips: {error!r}") from error
    parts = in_plane * (_sample_count(values) if _has_planes(values) else 1)
    if len(offsets) < parts:
        raise corrupt("TIFF", f"{len(offsets)} of {parts} strips or tiles")
    if values.get(_COMPRESSION, (_UNCOMPRESSED,))[0] == _UNCOMPRESSED:
        # The stated lengths are often wrong in such files, and Pillow computes its own.
        row, last = _row_bytes(values, columns), rows if tiled else height - rows * (down - 1)
        counts = [row * (rows if (part + 1) % in_plane else last) for part in range(parts)]
    else:
        counts = list(values.get(_TILE_COUNTS if tiled else _STRIP_COUNTS, ()))
        if len(counts) < parts:
            raise corrupt("TIFF", f"the lengths of {len(counts)} of {parts} strips or tiles")
    if any(offset + count > size for offset, count in zip(offsets, counts, strict=False)):
        raise truncated("the TIFF picture")


def _sample_count(values: dict[int, tuple[int, ...]]) -> int:
    return values.get(_SAMPLES, (1,))[0]


def _has_planes(values: dict[int, tuple[int, ...]]) -> bool:
    return values.get(_PLANAR, (1,))[0] == _SEPARATE_PLANES


def _row_bytes(values: dict[int, tuple[int, ...]], width: int) -> int:
    samples = 1 if _has_planes(values) else _sample_count(values)
    return (width * samples * values.get(_BITS, (1,))[0] + 7) // 8


def _with_directory(data: bytes, order: str, big: bool, entries: list[bytes]) -> bytes:
    """Return `data` whose header points to a new, only directory of `entries`."""
    word, header = ("Q", 8) if big else ("I", 4)
    padding = bytes(-len(data) % 8)
    place = struct.pack(order + word, len(data) + len(padding))
    count = struct.pack(order + ("Q" if big else "H"), len(entries))
    end = bytes(struct.calcsize("=" + word))
    rest = data[header + len(end) :]
    return b"".join((data[:header], place, rest, padding, count, *entries, end))
