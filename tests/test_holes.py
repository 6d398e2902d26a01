"""Files of full length with zeros where bytes are missing, as an interrupted copy leaves them."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data as photos

from featureid.images import decode_image
from tests.image_files import NO_AVIF, encode, heic, png_chunk, raw_png, reason_of

COFFEE = Image.fromarray(photos.coffee()).resize((300, 200))
WRITERS: dict[str, Callable[[Image.Image], bytes]] = {
    "avif": lambda image: encode(image, "AVIF", quality=90, speed=10),
    "heic": heic,
    "jpeg": lambda image: encode(image, "JPEG"),
    "jpeg-optimized": lambda image: encode(image, "JPEG", optimize=True),
    "jpeg-progressive": lambda image: encode(image, "JPEG", progressive=True),
    "webp": lambda image: encode(image, "WEBP", method=0),
    "webp-lossless": lambda image: encode(image, "WEBP", lossless=True, method=0),
    "png": lambda image: encode(image, "PNG"),
    "gif": lambda image: encode(image, "GIF"),
}
FORMATS = [
    pytest.param(name, marks=[NO_AVIF] if name == "avif" else [], id=name) for name in WRITERS
]


def zeroed(data: bytes, start: int, end: int) -> bytes:
    """Return a file with zeros from `start` to `end`."""
    return data[:start] + bytes(end - start) + data[end:]


@pytest.mark.parametrize("name", FORMATS)
def test_a_hole_in_a_photo_is_found(name: str) -> None:
    data, chance = WRITERS[name](COFFEE), random.Random(name)
    for kept in (0, 2, 700):  # the last bytes, 2 of which are the end marker of a JPEG
        for _ in range(3):
            start = int(len(data) * chance.uniform(0.3, 0.8))
            assert reason_of(zeroed(data, start, len(data) - kept)) in {"corrupt", "truncated"}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("kind", ["white", "black", "half", "stripes"])
def test_an_image_with_flat_parts_has_no_hole(name: str, kind: str) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    if kind == "white":
        pixels[:] = 255
    elif kind == "half":
        pixels[:] = 200
        pixels[:100] = np.random.default_rng(3).integers(0, 256, (100, 300, 3))
    elif kind == "stripes":
        pixels[:, ::2] = 255
    result = decode_image(WRITERS[name](Image.fromarray(pixels)))
    limit = 40 if kind in ("half", "stripes") else 3
    assert abs(result.pixels.astype(int) - pixels).mean() < limit


@NO_AVIF
def test_zeros_outside_of_the_image_do_not_matter() -> None:
    free = (1000).to_bytes(4, "big") + b"free" + bytes(992)
    for data in (WRITERS["avif"](COFFEE), heic(COFFEE)):
        np.testing.assert_array_equal(decode_image(data + free).pixels, decode_image(data).pixels)


def test_a_progressive_jpeg_without_its_last_scans_is_truncated() -> None:
    data = WRITERS["jpeg-progressive"](COFFEE)
    last = data.rindex(b"\xff\xda")
    assert reason_of(data[:last] + b"\xff\xd9") == "truncated"


# PNG: the compressed stream ends as it should, but too early

ROWS = np.random.default_rng(4).integers(1, 256, (20, 30, 3), np.uint8)


def filtered(rows: bytes, width: int) -> bytes:
    """Return rows of `width` bytes with the filter type 0 before each."""
    return b"".join(b"\0" + rows[at : at + width] for at in range(0, len(rows), width))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(missing=st.integers(1, 20 * 91), empty_end=st.booleans())
def test_a_png_whose_stream_ends_early_is_truncated(missing: int, empty_end: bool) -> None:
    pixels = ROWS.copy()
    if empty_end:
        pixels[-3:] = 0
    rows = filtered(pixels.tobytes(), 90)
    np.testing.assert_array_equal(decode_image(raw_png(30, 20, 8, 2, rows)).pixels, pixels)
    assert reason_of(raw_png(30, 20, 8, 2, rows[:-missing])) == "truncated"


@pytest.mark.parametrize(
    ("color", "depth"), [(0, 1), (0, 2), (0, 8), (0, 16), (2, 16), (3, 4), (3, 8), (4, 8), (6, 16)]
)
@pytest.mark.parametrize("interlaced", [False, True])
def test_black_and_transparent_pngs_are_whole_or_not(
    color: int, depth: int, interlaced: bool
) -> None:
    palette = [png_chunk(b"PLTE", b"\x11\x22\x33" * 16)] if color == 3 else []
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]

    def png(rows: bytes) -> bytes:
        data = bytearray(raw_png(13, 9, depth, color, rows, *palette))
        data[28] = interlaced
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        return bytes(data)

    sizes = [(13, 9)]
    if interlaced:  # the seven passes of 13 x 9 pixels
        sizes = [(2, 2), (2, 2), (4, 1), (3, 3), (7, 2), (6, 5), (13, 4)]
    size = sum((1 + (width * samples * depth + 7) // 8) * height for width, height in sizes)
    shown = decode_image(png(bytes(size))).pixels
    assert shown.shape == (9, 13, 3) and len(np.unique(shown.reshape(-1, 3), axis=0)) == 1
    assert reason_of(png(bytes(size - 1))) == "truncated"
    assert reason_of(png(b"")) == "truncated"
    np.testing.assert_array_equal(decode_image(png(bytes(size + 5))).pixels, shown)
