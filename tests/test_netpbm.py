"""Netpbm images, against Pillow as the slower reader, and damaged ones."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featureid.images import decode_image
from featureid.images.in_memory import image_from_pillow
from tests.image_files import reason_of


def netpbm(
    kind: int, width: int, height: int, largest: int, seed: int = 0, text: str = " "
) -> bytes:
    """Return a file of random samples; `text` is what separates its numbers."""
    is_bitmap, bands = kind in (1, 4), 3 if kind in (3, 6) else 1
    shape, most = (height, width * bands), 1 if is_bitmap else largest
    samples = np.random.default_rng(seed).integers(0, most + 1, shape)
    if kind <= 3:
        body = text.join(map(str, samples.ravel())).encode()
    elif is_bitmap:
        body = np.packbits(samples.astype(np.uint8), axis=1).tobytes()
    else:
        body = samples.astype(">u2" if largest > 255 else np.uint8).tobytes()
    maximum = b"" if is_bitmap else b"%d\n" % largest
    return b"P%d\n%d %d\n" % (kind, width, height) + maximum + body


@pytest.mark.parametrize("kind", [1, 2, 3, 4, 5, 6])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    width=st.integers(1, 20),
    height=st.integers(1, 9),
    largest=st.one_of(st.sampled_from([1, 255, 256, 1000, 65535]), st.integers(1, 65535)),
    seed=st.integers(0, 99),
    text=st.sampled_from([" ", "\n", "\r\n\t", " # note\n"]),
)
def test_as_pillow_reads_it(
    kind: int, width: int, height: int, largest: int, seed: int, text: str
) -> None:
    data = netpbm(kind, width, height, largest, seed, text)
    # Pillow joins numbers between which there is nothing but a comment.
    peer = Image.open(io.BytesIO(data.replace(b"# note\n", b"\n") + b"\n"))
    np.testing.assert_array_equal(decode_image(data).pixels, image_from_pillow(peer).pixels)


def test_comments_and_white_space_in_the_header() -> None:
    expected = decode_image(b"P2 2 1 9 1 2").pixels
    for header in (b"P2\r\n2\t1\n9\n", b"P2#a\n# b\n 2 #c\r1 #d\n9\n", b"P2\n2 1\n9#e\n"):
        np.testing.assert_array_equal(decode_image(header + b"1 2").pixels, expected)


def test_bits_need_no_space_between_them() -> None:
    assert decode_image(b"P1 3 2 011\n100").pixels[:, :, 0].tolist() == [[255, 0, 0], [0, 255, 255]]


def test_samples_over_the_stated_maximum_are_clipped() -> None:
    assert decode_image(b"P5 2 1 100\n\x64\xff").pixels[0, :, 0].tolist() == [255, 255]
    assert decode_image(b"P2 2 1 100\n100 70000").pixels[0, :, 0].tolist() == [255, 255]


def test_what_follows_the_image_does_not_matter() -> None:
    for data in (b"P2 2 1 9\n1 2", b"P1 2 1\n0 1", b"P5 2 1 9\n\1\2", b"P4 2 1\n\x80"):
        whole = decode_image(data).pixels
        np.testing.assert_array_equal(decode_image(data + b"\nP2 or a note").pixels, whole)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P5 20 10 255\n" + bytes(199), "truncated"),
        (b"P5 20 10 999\n" + bytes(399), "truncated"),
        (b"P6 20 10 255\n" + bytes(599), "truncated"),
        (b"P4 20 10\n" + bytes(29), "truncated"),
        (b"P2 3 1 9\n1 2", "truncated"),
        (b"P1 3 1\n1 0", "truncated"),
        (b"P6 20 10 255", "truncated"),
        (b"P6 20 1", "truncated"),
        (b"P2 3 1 9\n1 2 x", "corrupt"),
        (b"P2 3 1 9\n1 -2 3", "corrupt"),
        (b"P2 3 1 9\n1 2 " + b"0" * 11, "corrupt"),
        (b"P1 3 1\n1 0 2", "corrupt"),
        (b"P5 0 10 255\n" + bytes(9), "corrupt"),
        (b"P5 2 10 0\n" + bytes(20), "corrupt"),
        (b"P5 2 10 65536\n" + bytes(40), "corrupt"),
        (b"P5 2 10 25x\n" + bytes(40), "corrupt"),
        (b"P6 99999 99999 255\n", "too-many-pixels"),
        (b"P2 2 1 9\n" + b"1" * 3_000_000, "corrupt"),
    ],
)
def test_damage(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


def test_long_texts_are_read_in_blocks() -> None:
    for text in ("\n", " # a note that a block may cut\n"):
        data = netpbm(2, 700, 300, 65535, text=text)
        numbers = re.sub(rb"#[^\n]*", b"", data).split()[4:]
        high_bytes = np.array(numbers).astype(int) >> 8
        assert len(data) > 1 << 20
        np.testing.assert_array_equal(decode_image(data).pixels[:, :, 0].ravel(), high_bytes)
