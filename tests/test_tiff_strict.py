"""TIFF pages of JPEG strips and tiles: every kind of samples, and strips that do not fit."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageChops

from featureid.images import decode_image
from featureid.images.tiff_directory import Tag
from tests.image_files import PHOTO, RGB, difference, encode, reason_of

GRAY = PHOTO.convert("L")
SIZE = {"WIDTH": [60], "HEIGHT": [44]}
COLORS = {"PHOTOMETRIC": [6], "SAMPLES": [3], "BITS": [8] * 3}


def jpeg_tiff(chunks: list[bytes], tables: bytes = b"", /, **tags: list[int]) -> bytes:
    """Return a TIFF file of JPEG strips (or tiles, if there is a tile's width)."""
    fields: dict[str, Any] = {"COMPRESSION": [7], "PHOTOMETRIC": [1], "BITS": [8], **SIZE, **tags}
    tiled = "TILE_WIDTH" in fields
    offsets, at = [], 8
    for chunk in chunks:
        offsets.append(at)
        at += len(chunk)
    fields["TILE_OFFSETS" if tiled else "STRIP_OFFSETS"] = offsets
    fields["TILE_COUNTS" if tiled else "STRIP_COUNTS"] = [len(chunk) for chunk in chunks]
    raw = {Tag[name]: (4, struct.pack(f"<{len(v)}I", *v), len(v)) for name, v in fields.items()}
    if tables:
        raw[Tag.JPEG_TABLES] = (7, tables, len(tables))
    body, entries = b"".join(chunks), b""
    tail_at, tail = 8 + len(body) + 2 + 12 * len(raw) + 4, b""
    for tag, (kind, values, count) in sorted(raw.items()):
        place = values.ljust(4, b"\0")
        if len(values) > 4:
            place = struct.pack("<I", tail_at + len(tail))
            tail += values
        entries += struct.pack("<HHI", tag, kind, count) + place
    directory = struct.pack("<H", len(raw)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + tail


def strips(image: Image.Image, rows: int, **options: Any) -> list[bytes]:
    """Return JPEG files of so many rows each."""
    boxes = [
        (0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)
    ]
    return [encode(image.crop(box), "JPEG", quality=95, **options) for box in boxes]


@pytest.mark.parametrize("rows", [44, 16, 13])
def test_colors(rows: int) -> None:
    data = jpeg_tiff(strips(PHOTO, rows), ROWS_PER_STRIP=[rows], **COLORS)
    assert difference(decode_image(data), RGB) < 5
    # The same bytes taken for red, green and blue: the first sample is the brightness.
    data = jpeg_tiff(strips(PHOTO, rows), ROWS_PER_STRIP=[rows], **COLORS | {"PHOTOMETRIC": [2]})
    assert abs(decode_image(data).pixels[:, :, 0].astype(int) - np.asarray(GRAY)).mean() < 3


def test_gray_in_which_0_is_white_or_black() -> None:
    expected = np.asarray(GRAY).astype(int)[:, :, None].repeat(3, 2)
    assert difference(decode_image(jpeg_tiff(strips(GRAY, 44))), expected) < 3
    inverted = decode_image(jpeg_tiff(strips(GRAY, 44), PHOTOMETRIC=[0]))
    assert difference(inverted, 255 - expected) < 3


def test_tiles_over_the_edge_and_tables_apart() -> None:
    wide = Image.new("RGB", (64, 48))
    wide.paste(PHOTO)
    tiles = [wide.crop((x, y, x + 32, y + 16)) for y in (0, 16, 32) for x in (0, 32)]
    whole = [encode(tile, "JPEG", quality=95) for tile in tiles]
    options: dict[str, Any] = {"TILE_WIDTH": [32], "TILE_HEIGHT": [16], **COLORS}
    expected = decode_image(jpeg_tiff(whole, **options)).pixels
    assert abs(expected.astype(int) - RGB).mean() < 5
    start, end = whole[0].index(b"\xff\xdb"), whole[0].index(b"\xff\xc0")
    tables = b"\xff\xd8" + whole[0][start:end] + b"\xff\xd9"
    without = [tile[:start] + tile[end:] for tile in whole]
    apart = jpeg_tiff(without, tables, **options)
    np.testing.assert_array_equal(decode_image(apart).pixels, expected)
    assert reason_of(jpeg_tiff(without, **options)) == "corrupt"


@pytest.mark.parametrize(("extra", "alpha"), [([], False), ([0], False), ([1], True), ([2], True)])
def test_four_samples(extra: list[int], alpha: bool) -> None:
    bands = [*PHOTO.split(), Image.new("L", PHOTO.size, 255)]
    # Pillow stores the inverse, as Adobe's programs do, and says so; TIFF does not know of that.
    chunks = strips(Image.merge("CMYK", [ImageChops.invert(band) for band in bands]), 44)
    tags: dict[str, Any] = {"SAMPLES": [4], "BITS": [8] * 4, "PHOTOMETRIC": [2 if extra else 5]}
    if extra:
        tags["EXTRA_SAMPLES"] = extra
    shown = decode_image(jpeg_tiff(chunks, **tags))
    if alpha:
        assert difference(shown, RGB) < 7
    elif not extra:
        assert shown.pixels.max() < 10  # black ink everywhere


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"HEIGHT": [45]}, "corrupt"),
        ({"HEIGHT": [60]}, "corrupt"),
        ({"WIDTH": [59]}, "corrupt"),
        ({"WIDTH": [61]}, "corrupt"),
        ({"BITS": [12]}, "unsupported"),
        ({"SAMPLES": [2]}, "unsupported"),
        ({"PHOTOMETRIC": [8]}, "unsupported"),
        (COLORS, "corrupt"),
    ],
)
def test_a_strip_that_does_not_fit_its_page(tags: dict[str, list[int]], reason: str) -> None:
    assert reason_of(jpeg_tiff(strips(GRAY, 44), **tags)) == reason


def test_a_strip_higher_than_its_page_is_cut() -> None:
    data = jpeg_tiff(strips(GRAY, 44), HEIGHT=[40])
    assert decode_image(data).pixels.shape == (40, 60, 3)


def test_a_truncated_strip_is_not_gray() -> None:
    chunk = strips(GRAY, 44)[0]
    assert reason_of(jpeg_tiff([chunk[: len(chunk) * 2 // 3]])) == "truncated"
    assert reason_of(jpeg_tiff([b"no JPEG at all, but long enough"])) == "truncated"
