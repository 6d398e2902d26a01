"""The boxes of AVIF and HEIC files, and the bytes of their images, checked before they are decoded.

A copy that was interrupted often has its full length, and zeros where bytes are missing. Decoders
then show another image and report nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from featureid.images.failures import corrupt, truncated

# What a file needs, and what may come before, between and behind (ISO/IEC 14496-12 and 23008-12).
_KNOWN_BOXES = frozenset(
    {b"ftyp", b"meta", b"mdat", b"moov", b"moof", b"mfra", b"free", b"skip", b"wide", b"uuid"}
    | {b"pdin", b"styp", b"sidx", b"jumb", b"mpvd", b"idat", b"grpl", b"etyp"}
)
_MAX_BOXES = 1 << 14
# Items, their references and places: 64 megapixels in tiles of 512 x 512 have 256 of each.
_MAX_ITEMS = 1 << 14
_CODED = {"AVIF": b"av01", "HEIC": b"hvc1"}
_IN_FILE, _IN_IDAT = 0, 1
# The arithmetic code of AV1 adapts: no file of 15 images, flat ones among them, at 4 qualities had
# more than 13 zeros in a row.  A hole that an interrupted copy leaves has hundreds.
_AV1_HOLE = bytes(32)
# Forbidden within a NAL unit, as is a zero at its end (ITU-T H.265, 7.4.2).
_START_CODE = bytes(3)
_HOLE = "a hole of zeros in the image"

_Places = list[tuple[int, int]]


def check_boxes(data: bytes, kind: str) -> None:
    """Check that the top-level boxes of an AVIF or HEIC file are whole (ISO/IEC 14496-12, 4.2).

    Bytes behind the boxes are accepted: cameras append videos and notes of their own.

    Raises:
        ImageError: ``truncated`` or ``corrupt``.
    """
    position, has_data = 0, False
    for _ in range(_MAX_BOXES):
        if position >= len(data):
            break
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
    else:
        raise corrupt(kind, f"more than {_MAX_BOXES:,} boxes")
    if not has_data and b"idat" not in data:
        raise truncated(f"the {kind} image")


def check_coded_images(data: bytes, kind: str) -> None:
    """Look for holes in the compressed bytes of the image that is shown, or of its tiles.

    For HEIC the rule is the standard's, and exact; for AVIF it is measured.

    Raises:
        ImageError: ``truncated`` or ``corrupt``.
    """
    try:
        items = _Items.read(data)
        places = [items.places_of(item, _CODED[kind]) for item in items.shown()]
    except (struct.error, IndexError, StopIteration):
        return  # an unusual file, which its decoder judges
    if sum(end - start for image in places for start, end in image) > len(data):
        raise corrupt(kind, "images of more bytes than the file has")
    for image in places:
        coded = b"".join(data[start:end] for start, end in image)
        if kind == "HEIC":
            _check_nal_units(coded, items.length_size)
        elif _AV1_HOLE in coded:
            raise corrupt(kind, _HOLE)


def _check_nal_units(image: bytes, length_size: int) -> None:
    """Check the NAL units of an image, each behind its length (ISO/IEC 14496-15, 4.3.3)."""
    position = 0
    while position < len(image):
        start = position + length_size
        size = int.from_bytes(image[position:start], "big")
        position = start + size
        if not size or position > len(image):
            raise corrupt("HEIC", f"a NAL unit of {size:,} bytes in an image of {len(image):,}")
        if image.find(_START_CODE, start, position) >= 0 or not image[position - 1]:
            raise corrupt("HEIC", _HOLE)


@dataclass(frozen=True)
class _Items:
    """The items of a ``meta`` box (ISO/IEC 14496-12, 8.11), as far as they are images.

    Attributes:
        primary: the id of the image that is shown.
        types: id -> type.
        parts: id -> ids of the images that it is made of.
        places: id -> (start, end) of its pieces in the file.
        length_size: bytes of the length of a NAL unit.
    """

    primary: int
    types: dict[int, bytes]
    parts: dict[int, tuple[int, ...]]
    places: dict[int, _Places]
    length_size: int

    @classmethod
    def read(cls, data: bytes) -> _Items:
        """Read the first ``meta`` box; struct.error, IndexError or StopIteration if it is odd."""
        start, end = next(box[1:] for box in _boxes(data, 0, len(data)) if box[0] == b"meta")
        inner = {name: _Numbers(data, *place) for name, *place in _boxes(data, start + 4, end)}
        idat = inner[b"idat"].position if b"idat" in inner else 0
        config = data.find(b"hvcC", start, end)
        return cls(
            primary=_primary(inner[b"pitm"]) if b"pitm" in inner else 0,
            types=_types(data, inner[b"iinf"]) if b"iinf" in inner else {},
            parts=_parts(data, inner[b"iref"]) if b"iref" in inner else {},
            places=_places(inner[b"iloc"], idat, len(data)) if b"iloc" in inner else {},
            length_size=(data[config + 25] & 3) + 1 if config >= 0 else 4,
        )

    def shown(self) -> Iterator[int]:
        """Yield the primary image, or instead of a derived one those that it is made of."""
        pending, known = [self.primary], set[int]()
        while pending:
            item = pending.pop()
            if item not in known:
                known.add(item)
                pending += self.parts.get(item, ())
                yield item

    def places_of(self, item: int, type_: bytes) -> _Places:
        """Return where an item is, if it is of this type."""
        return self.places.get(item, []) if self.types.get(item) == type_ else []


class _Numbers:
    """Reads big-endian numbers of a box one after another; IndexError behind its end."""

    def __init__(self, data: bytes, position: int, end: int) -> None:
        self._data = data
        self.position = position
        self.end = end

    def next(self, size: int) -> int:
        """Return the number in the next `size` bytes."""
        start, self.position = self.position, self.position + size
        if self.position > self.end:
            raise IndexError(self.position)
        return int.from_bytes(self._data[start : self.position], "big")

    def version(self) -> int:
        """Return the version of a full box, at its beginning."""
        return self.next(4) >> 24


def _boxes(data: bytes, position: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start of the content and end of each box."""
    for _ in range(_MAX_BOXES):
        if position + 8 > end:
            return
        size, start = int.from_bytes(data[position : position + 4], "big"), position + 8
        if size == 1:
            size, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        following = position + size if size else end
        if not start <= following <= end:
            return
        yield data[position + 4 : position + 8], start, following
        position = following


def _primary(box: _Numbers) -> int:
    return box.next(4 if box.version() else 2)


def _types(data: bytes, box: _Numbers) -> dict[int, bytes]:
    """Return the types of the items that an ``iinf`` box lists."""
    box.next(4 if box.version() else 2)  # how many
    types: dict[int, bytes] = {}
    for name, start, end in _boxes(data, box.position, box.end):
        entry = _Numbers(data, start, end)
        version = entry.version()
        if name == b"infe" and version >= 2:
            item = entry.next(4 if version > 2 else 2)
            types[item] = data[entry.position + 2 : entry.position + 6]
    return types


def _parts(data: bytes, box: _Numbers) -> dict[int, tuple[int, ...]]:
    """Return the references of an ``iref`` box to what an image is derived from."""
    id_size, parts, total = 4 if box.version() else 2, dict[int, tuple[int, ...]](), 0
    for name, start, end in _boxes(data, box.position, box.end):
        reference = _Numbers(data, start, end)
        if name == b"dimg":
            item, count = reference.next(id_size), reference.next(2)
            total += count
            if total > _MAX_ITEMS:
                raise corrupt("HEIF", f"more than {_MAX_ITEMS:,} parts of images")
            parts[item] = tuple(reference.next(id_size) for _ in range(count))
    return parts


def _places(box: _Numbers, idat: int, file_size: int) -> dict[int, _Places]:
    """Return for each item of an ``iloc`` box where its pieces are."""
    version, sizes = box.version(), box.next(2)
    offset_size, length_size, base_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    index_size, id_size = sizes & 15 if version else 0, 4 if version >= 2 else 2
    places, total = dict[int, _Places](), 0
    for _ in range(box.next(id_size)):
        item, method = box.next(id_size), box.next(2) & 15 if version else _IN_FILE
        box.next(2)  # in which file
        base, count, pieces = box.next(base_size), box.next(2), _Places()
        total += 1 + count
        if total > _MAX_ITEMS:
            raise corrupt("HEIF", f"more than {_MAX_ITEMS:,} places of images")
        for _ in range(count):
            box.next(index_size)
            start = base + box.next(offset_size) + (idat if method == _IN_IDAT else 0)
            size = box.next(length_size)
            pieces.append((start, start + size if size else file_size))
        if method in (_IN_FILE, _IN_IDAT):
            if any(end > file_size for _, end in pieces):
                raise truncated("the coded image")
            places[item] = pieces
    return places
