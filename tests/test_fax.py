"""Fax compression, against libtiff as the writer."""

from __future__ import annotations

import io
import random

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featureid.errors import ImageError
from featureid.images import decode_image
from featureid.images.fax import FaxCoding, decode_fax
from tests.image_files import reason_of

#: Compression and the options of Group 3: references to the row above, end-of-line codes aligned.
CODINGS = [
    ("group4", 0),
    ("tiff_ccitt", 0),
    *(("group3", options) for options in (0, 1, 4, 5)),
]


def fax_tiff(black: npt.NDArray[np.bool_], compression: str, options: int = 0) -> bytes:
    """Return a TIFF file of one strip, in which 1 is black."""
    buffer = io.BytesIO()
    tags = {262: 0, 278: len(black), **({292: options} if compression == "group3" else {})}
    Image.fromarray(~black).save(buffer, "TIFF", compression=compression, tiffinfo=tags)
    return buffer.getvalue()


def drawn(seed: int, width: int, height: int, density: float) -> npt.NDArray[np.bool_]:
    """Return runs of random lengths, in rows that resemble those above them."""
    chance = np.random.default_rng(seed)
    pixels = np.logical_xor.accumulate(chance.random((height, width)) < density, axis=1)
    for row in range(1, height):
        if chance.random() < 0.7:
            pixels[row] = pixels[row - 1] ^ (chance.random(width) < density / 4)
    return pixels


@pytest.mark.parametrize(("compression", "options"), CODINGS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    width=st.one_of(st.integers(1, 40), st.integers(1700, 6000)),
    height=st.integers(1, 12),
    density=st.sampled_from([0, 0.001, 0.02, 0.5, 1]),
)
def test_what_libtiff_writes_is_read(
    compression: str, options: int, seed: int, width: int, height: int, density: float
) -> None:
    black = drawn(seed, width, height, density)
    shown = decode_image(fax_tiff(black, compression, options)).pixels
    np.testing.assert_array_equal(shown, np.where(black, 0, 255)[:, :, None].repeat(3, 2))


@pytest.mark.parametrize(("compression", "options"), CODINGS)
def test_damage_is_refused_or_gives_whole_rows(compression: str, options: int) -> None:
    data = fax_tiff(drawn(1, 300, 40, 0.03), compression, options)
    chance, refused = random.Random(compression), 0
    for _ in range(40):
        damaged = bytearray(data)
        damaged[chance.randrange(8, len(data) // 2)] ^= 1 << chance.randrange(8)
        try:
            assert decode_image(bytes(damaged)).pixels.shape == (40, 300, 3)
        except ImageError as error:
            refused += error.reason in ("corrupt", "truncated", "unsupported")
    assert refused > 20


def bits(text: str) -> bytes:
    """Return the bytes of bits, which may have spaces, filled with zeros."""
    text = text.replace(" ", "")
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


@pytest.mark.parametrize(
    ("text", "group", "reason"),
    [
        ("1", 4, "truncated"),  # a white row, where there are two
        ("001 1011 011 1" + "1" * 20, 4, "corrupt"),  # white 4, black 4 for 6 columns
        ("0000001111" + "0" * 20, 4, "unsupported"),  # an extension
        ("0000000011" + "1" * 20, 4, "corrupt"),  # no code word
        ("010" + "1" * 20, 4, "None"),  # a change left of the end is at column 5
        ("0000010" + "1" * 20, 4, "None"),
        ("001 0111 11 0000010" + "1" * 20, 4, "corrupt"),  # runs backward
        ("000000000001 1110", 3, "truncated"),
        ("000000000001 1110 000000000001 000000000001 000000000001" + "1" * 9, 3, "corrupt"),
        ("00000 000000000001 1110 000000 000000000001 1110", 3, "None"),  # fill bits
        ("11101110", 2, "truncated"),  # each row begins a byte
        ("1110 0000 1110", 2, "None"),
    ],
)
def test_bits(text: str, group: int, reason: str) -> None:
    try:
        assert decode_fax(bits(text), 6, 2, FaxCoding(group)).shape == (2, 6)
        found = "None"
    except ImageError as error:
        found = error.reason
    assert found == reason


def test_a_row_of_two_kinds_needs_its_end_of_line_code() -> None:
    with pytest.raises(ImageError, match="fax"):
        decode_fax(bits("1110" + "1" * 30), 6, 2, FaxCoding(3, mixed=True))


def test_runs_of_no_length_are_no_changes() -> None:
    # Black 2, white 0, black 4: a black row, below which a change lies at column 0 only.
    pixels = decode_fax(bits("001 00110101 11 001 00110101 011 1 1"), 6, 2, FaxCoding(4))
    assert pixels.tolist() == [[1] * 6] * 2


def test_options_that_are_not_decoded_are_unsupported() -> None:
    data = fax_tiff(drawn(1, 30, 4, 0.1), "group3", 0)
    entry = data.index(b"\x24\1\4\0\1\0\0\0")  # 292, LONG
    assert reason_of(data[: entry + 8] + b"\2" + data[entry + 9 :]) == "unsupported"
