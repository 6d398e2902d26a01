"""BMP: color tables and run-length encoding, against the pixels they were made from."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featureid.images import DecodeLimits, decode_image
from tests.image_files import RGB, reason_of

Pixels = npt.NDArray[np.uint8]
LEVELS = (RGB[:, :, 1] * 15 // 255).astype(np.uint8)
TABLE = np.random.default_rng(5).integers(0, 256, (16, 3)).astype(np.uint8)
BLACK_AND_WHITE = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)
UNCOMPRESSED = 0
#: Bits per pixel to the number of the compression by run lengths.
RUN_LENGTHS = {8: 1, 4: 2}


def bmp(pixels: bytes, size: tuple[int, int], bits: int, compression: int, table: Pixels) -> bytes:
    """Return a BMP file of encoded pixels; `size` is (width, height)."""
    colors = b"".join(bytes((*color[::-1], 0)) for color in table.tolist())
    start = 14 + 40 + len(colors)
    header = struct.pack("<IiiHHIIiiII", 40, *size, 1, bits, compression, 0, 0, 0, len(table), 0)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + colors + pixels


def packed(row: Pixels, bits: int) -> bytes:
    """Return the colors of pixels, two in a byte if `bits` is 4."""
    if bits == 8:
        return row.tobytes()
    even = np.append(row, [0] * (len(row) % 2)).astype(np.uint8)
    return (even[::2] << 4 | even[1::2]).astype(np.uint8).tobytes()


def uncompressed(levels: Pixels, bits: int) -> bytes:
    """Return uncompressed rows, from the bottom to the top, each of a multiple of 4 bytes."""
    rows = [packed(row, bits) for row in levels[::-1]]
    return b"".join(row + bytes(-len(row) % 4) for row in rows)


def run_lengths(levels: Pixels, bits: int, literal: int) -> bytes:
    """Return compressed rows: literal runs of `literal` pixels in turns with repeated colors."""
    out = b""
    for row in levels[::-1]:
        at = 0
        while at < len(row):
            part = row[at : at + literal]
            if len(part) == literal >= 3:
                data = packed(part, bits)
                out += bytes((0, literal)) + data + bytes(len(data) % 2)
                at += literal
            if at < len(row):
                count = 1
                while at + count < len(row) and row[at + count] == row[at] and count < 255:
                    count += 1
                color = int(row[at])
                out += bytes((count, color if bits == 8 else color << 4 | color))
                at += count
        out += b"\0\0"
    return out + b"\0\1"


@pytest.mark.parametrize("bits", RUN_LENGTHS)
@pytest.mark.parametrize("literal", [0, 3, 4, 5, 8])
@pytest.mark.parametrize("width", [59, 60])
def test_run_lengths_give_the_pixels_they_were_made_from(
    bits: int, literal: int, width: int
) -> None:
    levels = LEVELS[:, :width]
    size = (width, len(levels))
    data = bmp(run_lengths(levels, bits, literal), size, bits, RUN_LENGTHS[bits], TABLE)
    np.testing.assert_array_equal(decode_image(data).pixels, TABLE[levels])


def test_alternating_colors_of_4_bits() -> None:
    data = bmp(b"\5\x12\0\0\5\x34\0\1", (5, 2), 4, 2, TABLE)
    expected = [[3, 4, 3, 4, 3], [1, 2, 1, 2, 1]]
    np.testing.assert_array_equal(decode_image(data).pixels, TABLE[expected])


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("top_down", [False, True])
def test_a_table_of_black_and_white(bits: int, top_down: bool) -> None:
    levels = LEVELS // 8
    rows = levels[::-1] if top_down else levels
    encoded = (
        b"".join(np.packbits(row).tobytes() for row in np.pad(rows[::-1], ((0, 0), (0, 4))))
        if bits == 1
        else uncompressed(rows, bits)
    )
    size = (levels.shape[1], -len(levels) if top_down else len(levels))
    data = bmp(encoded, size, bits, UNCOMPRESSED, BLACK_AND_WHITE)
    np.testing.assert_array_equal(decode_image(data).pixels, BLACK_AND_WHITE[levels])


def drawn(data: bytes, bits: int, width: int, height: int) -> list[int] | str:
    """Return the colors of all pixels, from below, command by command; or why there are none."""
    pixels, at, x, y = dict[int, int](), 0, 0, 0
    while len(pixels) < width * height:
        if y >= height:
            return "unsupported"
        if at + 2 > len(data):
            return "truncated"
        first, second, at = data[at], data[at + 1], at + 2
        if first:
            colors = [second] if bits == 8 else [second >> 4, second & 15]
            run = [colors[number % len(colors)] for number in range(first)]
        elif second == 0:
            x, y = 0, y + 1
            continue
        elif second == 1:
            return "unsupported"
        elif second == 2:
            if at + 2 > len(data):
                return "truncated"
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:
            size = (second * bits + 7) // 8
            listed = data[at : at + size]
            halves = [half for byte in listed for half in (byte >> 4, byte & 15)]
            run = ([*listed] if bits == 8 else halves)[:second]
            if len(run) < second:
                return "truncated"
            at += size + size % 2
        for color in run:
            if x < width:
                pixels[y * width + x] = color
                x += 1
    return [pixels[number] for number in range(width * height)]


COMMANDS = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(0, 255)).map(bytes),
    st.sampled_from([b"\0\0", b"\0\0", b"\0\1", b"\0\2\0\0", b"\0\2\1\0", b"\0\2\0\1"]),
    st.binary(min_size=3, max_size=9).map(
        lambda run: bytes((0, len(run))) + run + bytes(len(run) % 2)
    ),
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    commands=st.lists(COMMANDS, max_size=12),
    cut=st.integers(0, 3),
    bits=st.sampled_from([8, 4]),
    size=st.tuples(st.integers(1, 9), st.integers(1, 4)),
)
def test_commands_draw_what_they_draw_one_by_one(
    commands: list[bytes], cut: int, bits: int, size: tuple[int, int]
) -> None:
    data = b"".join(commands)
    data = data[: len(data) - cut]
    expected, table = drawn(data, bits, *size), np.tile(TABLE, (16, 1))
    file = bmp(data, size, bits, RUN_LENGTHS[bits], table)
    if isinstance(expected, str):  # of two reasons, either is right
        assert reason_of(file) in {"truncated", "unsupported"}
    else:
        levels = np.array(expected).reshape(size[::-1])[::-1]
        np.testing.assert_array_equal(decode_image(file).pixels, table[levels])


def test_run_lengths_over_many_windows() -> None:
    levels = np.random.default_rng(2).integers(0, 16, (300, 200)).astype(np.uint8)
    for bits in RUN_LENGTHS:
        encoded = run_lengths(levels, bits, 5)
        assert len(encoded) > 3 << 14
        data = bmp(encoded, (200, 300), bits, RUN_LENGTHS[bits], TABLE)
        np.testing.assert_array_equal(decode_image(data).pixels, TABLE[levels])


@pytest.mark.parametrize(
    ("pixels", "size", "reason"),
    [
        (b"\2\1\0\0\2\1\0\1", (2, 3), "unsupported"),  # ends a row too early
        (b"\2\1\0\2\1\1\2\1\0\1", (2, 3), "unsupported"),  # skips pixels
        (b"\2\1\0\0\2\1\0\0\2\1\0\1", (2, -3), "unsupported"),  # from top to bottom
        (b"\2\1\0\0\2\1", (2, 3), "truncated"),
        (b"\0\4\1\2", (4, 1), "truncated"),
        (b"\2\1\0\2", (2, 3), "truncated"),
        (b"\2\1\0\1", (0, 3), "corrupt"),
    ],
)
def test_run_lengths_that_leave_pixels_out(
    pixels: bytes, size: tuple[int, int], reason: str
) -> None:
    assert reason_of(bmp(pixels, size, 8, 1, TABLE)) == reason


def test_a_run_beyond_its_row_is_cut() -> None:
    data = bmp(b"\xff\1\0\0\2\2\0\1", (2, 2), 8, 1, TABLE)
    np.testing.assert_array_equal(decode_image(data).pixels, TABLE[[[2, 2], [1, 1]]])


def test_run_lengths_do_not_allocate_more_than_the_limit() -> None:
    options: dict[str, Any] = {"limits": DecodeLimits(max_pixels=100)}
    assert reason_of(bmp(b"\0\1", (1 << 20, 1 << 20), 8, 1, TABLE), **options) == "too-many-pixels"
