"""The boxes of HEIC and AVIF files, made by hand: tiles, odd boxes, hostile numbers of items."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from featureid.errors import ImageError
from featureid.images.heif import check_boxes, check_coded_images

TILES = [bytes((0, 0, 0, 5)) + b"tile%d" % number for number in range(3)]
HOLE = bytes((0, 0, 0, 5)) + b"\1\0\0\0\1"


def box(name: bytes, body: bytes, version: int | None = None) -> bytes:
    """Return a box, or a full box of a version."""
    if version is not None:
        body = struct.pack(">I", version << 24) + body
    return struct.pack(">I", 8 + len(body)) + name + body


def heif(images: list[bytes], *, idat: bool = False, version: int = 1) -> bytes:
    """Return a file whose item 1 is a grid of all images, but for the last: a thumbnail."""
    ids, large = ">I" if version == 2 else ">H", int(version == 2)
    types = [b"grid", *[b"hvc1"] * len(images)]
    infos = [
        box(b"infe", struct.pack(ids, item) + bytes(2) + type_ + b"\0", 2 + large)
        for item, type_ in enumerate(types, 1)
    ]
    parts = range(2, 1 + len(images))
    tiles = b"".join(struct.pack(ids, part) for part in parts)
    references = box(b"dimg", struct.pack(ids, 1) + struct.pack(">H", len(parts)) + tiles)

    def meta(start: int) -> bytes:
        places, method = b"", struct.pack(">H", idat) if version else b""
        for item, image in enumerate(images, 2):
            extent = struct.pack(">HHII", 0, 1, start, len(image))
            places += struct.pack(ids, item) + method + extent
            start += len(image)
        return box(
            b"meta",
            box(b"pitm", struct.pack(ids, 1), large)
            + box(b"iinf", struct.pack(ids, len(infos)) + b"".join(infos), large)
            + box(b"iref", references, large)
            + box(b"iloc", b"\x44\0" + struct.pack(ids, len(images)) + places, version)
            + (box(b"idat", b"".join(images)) if idat else b""),
            0,
        )

    head = box(b"ftyp", b"heic\0\0\0\0mif1heic")
    start = 0 if idat else len(head) + len(meta(0)) + 8
    return head + meta(start) + box(b"mdat", b"" if idat else b"".join(images))


def refused(data: bytes, kind: str = "HEIC") -> str:
    with pytest.raises(ImageError) as caught:
        check_coded_images(data, kind)
    return f"{caught.value.reason}: {caught.value}"


@pytest.mark.parametrize("version", [0, 1, 2])
@pytest.mark.parametrize("idat", [False, True])
def test_a_hole_in_a_tile_is_found_and_one_in_a_thumbnail_does_not_matter(
    version: int, idat: bool
) -> None:
    if idat and not version:
        return  # the version has no such place
    options: dict[str, Any] = {"idat": idat, "version": version}
    check_coded_images(heif(TILES, **options), "HEIC")
    check_coded_images(heif([*TILES[:2], HOLE], **options), "HEIC")
    for at in range(2):
        damaged = [HOLE if number == at else tile for number, tile in enumerate(TILES)]
        assert "hole" in refused(heif(damaged, **options))


@pytest.mark.parametrize(
    "image",
    [
        bytes((0, 0, 0, 5)) + b"ends\0",
        bytes((0, 0, 0, 9)) + b"short",
        bytes((0, 0, 0, 0)) + b"empty",
        TILES[0] + b"\0\0",
    ],
)
def test_nal_units_of_an_impossible_length_or_end(image: bytes) -> None:
    assert "corrupt" in refused(heif([image, *TILES]))


def test_places_behind_the_end_are_truncated_and_overlapping_ones_corrupt() -> None:
    data = heif(TILES)
    assert "truncated" in refused(data[:-30])
    many = heif([b"\0\0\0\5tile!" * 40] * 4)
    place = many.index(struct.pack(">I", 360))
    assert "corrupt" in refused(many[:place] + struct.pack(">I", 0) + many[place + 4 :])


def test_an_odd_file_is_left_to_its_decoder() -> None:
    data = heif(TILES)
    for name in (b"meta", b"iloc", b"pitm", b"iinf"):
        check_coded_images(data.replace(name, b"free"), "HEIC")
    check_coded_images(data[:60], "HEIC")


def test_endless_boxes_and_items_are_refused() -> None:
    endless = box(b"ftyp", b"heic") + box(b"free", b"") * 20_000
    with pytest.raises(ImageError, match="16,384 boxes"):
        check_boxes(endless, "HEIC")
    items = struct.pack(">H", 20_000) + struct.pack(">HHH", 1, 0, 0) * 20_000
    assert "16,384 places" in refused(box(b"meta", box(b"iloc", b"\x44\0" + items, 0), 0))
    parts = box(b"dimg", struct.pack(">HH", 1, 20_000) + bytes(40_000))
    assert "16,384 parts" in refused(box(b"meta", box(b"iref", parts, 0), 0))
