"""Damaged and truncated files are refused, with the reason; harmless faults are not."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data as photos

from featureid.errors import ImageError
from featureid.images import DecodedImage, DecodeLimits, decode_image
from tests.image_files import FILES, PHOTO, RGB, encode, heic, png_chunk, reason_of


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with chunks inserted behind IHDR."""
    return png[:33] + b"".join(chunks) + png[33:]


# Damage


def test_an_empty_file() -> None:
    assert reason_of(b"") == "empty"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, this is not an image at all", "text"),
        (b"%PDF-1.7 and so on and so on", "PDF"),
        (b"<!DOCTYPE html><html><body>an inline <svg></svg></body></html>", "HTML"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
        (b"BMW builds cars and not bitmaps", "text"),
        (b"\x93\x01\x02" * 20, "an unknown format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "PostScript"),
        (b"\n\n\n  text that begins with white space", "text"),
    ],
)
def test_content_that_is_not_an_image(data: bytes, words: str) -> None:
    assert reason_of(data) == "not-an-image"
    with pytest.raises(ImageError, match=words):
        decode_image(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\x0a\xfa\x1f\x01" + bytes(30), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(30), "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(30), "JPEG 2000"),
        (b"\xff\x4f\xff\x51\0\x2f" + bytes(30), "JPEG 2000"),
        (
            b"\xff\xd8\xff\xf7\0\x0b\x08\0\5\0\5\1\1\x11\0\xff\xda\0\x08\1\1\0\0\0\0" + bytes(9),
            "0xf7",
        ),
        (b"8BPS\0\1" + bytes(30), "Photoshop"),
        (
            b'<?xml version="1.0"?><!-- by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
            "SVG",
        ),
        (b"\xef\xbb\xbf<svg width='9' height='9'></svg>", "SVG"),
        (b"FUJIFILMCCD-RAW 0201FF" + bytes(30), "camera raw"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(30), "camera raw"),
        (b"IIRO\x08\0\0\0" + bytes(30), "camera raw"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1miaf" + bytes(30), "HEIF"),
        (b"\0\0\1\0\1\0\x20\x20" + bytes(30), "icon"),
        (b"PF\n9 9\n-1.0\n" + bytes(30), "PFM"),
        (b"\r\n\xff\xd8\xff\xe0\0\x10JFIF" + bytes(30), "other bytes"),
    ],
)
def test_images_of_other_formats_are_unsupported(data: bytes, words: str) -> None:
    assert reason_of(data) == "unsupported"
    with pytest.raises(ImageError, match=words):
        decode_image(data)


@pytest.mark.parametrize("name", FILES)
def test_cut_near_the_ends(name: str) -> None:
    data, whole = FILES[name], decode_image(FILES[name]).pixels
    for length in [*range(1, 60, 7), *range(len(data) - 40, len(data))]:
        check_cut(data[:length], whole)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(FILES)), part=st.floats(0, 1, exclude_max=True))
def test_cut_anywhere(name: str, part: float) -> None:
    data = FILES[name]
    check_cut(data[: int(len(data) * part)], decode_image(data).pixels)


def check_cut(cut: bytes, whole: npt.NDArray[np.uint8]) -> None:
    try:
        result = decode_image(cut)
    except ImageError as error:
        assert error.reason in {"empty", "truncated"} or (
            error.reason == "not-an-image" and len(cut) < 12
        )
    else:
        np.testing.assert_array_equal(result.pixels, whole)


@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.999])
def test_cut_heic(length: float) -> None:
    data = heic(PHOTO)
    assert reason_of(data[: int(len(data) * length)]) == "truncated"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_never_escape(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(name)
    limits = DecodeLimits(max_pixels=1 << 18)
    for _ in range(80):
        data = bytearray(FILES[name])
        for _ in range(chance.choice((1, 1, 4))):
            end = len(data) if chance.random() < 0.5 else min(len(data), 200)
            data[chance.randrange(end)] ^= 1 << chance.randrange(8)
        try:
            result = decode_image(
                bytes(data), min_size=chance.choice((None, (9, 9))), limits=limits
            )
        except ImageError as error:
            assert error.reason not in {"empty"}
        else:
            assert isinstance(result, DecodedImage)
            assert result.pixels.dtype == np.uint8
            assert result.pixels.shape[2] == 3
            assert result.pixels.shape[0] <= result.height
            assert result.pixels.shape[1] <= result.width
    capfd.readouterr()  # libtiff writes its errors to the standard error stream


def test_a_png_with_a_wrong_checksum_is_corrupt() -> None:
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 4
    assert reason_of(bytes(data)) == "corrupt"


def test_bad_metadata_of_a_png_does_not_matter() -> None:
    bad = [
        png_chunk(b"acTL", b"\0"),
        png_chunk(b"pHYs", b"\0"),
        png_chunk(b"zTXt", b"key\0\0not zlib"),
        b"\0\0\0\1tEXtxABCD",
        png_chunk(b"iCCP", b"bad"),
    ]
    np.testing.assert_array_equal(decode_image(with_chunks(FILES["png"], *bad)).pixels, RGB)
    assert reason_of(with_chunks(FILES["png"], png_chunk(b"CgBI", b"1234"))) == "unsupported"


def test_a_tiff_without_its_strips_is_not_black() -> None:
    strips = encode(PHOTO, "TIFF", tiffinfo={278: 10})
    whole = decode_image(strips).pixels
    np.testing.assert_array_equal(whole, RGB)
    at = strips.index(struct.pack("<HHI", 278, 4, 1))  # rows per strip, one LONG
    fewer = strips[: at + 8] + struct.pack("<H", 1) + strips[at + 10 :]
    assert reason_of(fewer) == "corrupt"


PLAIN = encode(Image.fromarray(photos.astronaut()).resize((320, 240)), "JPEG", quality=88)


def scan_start(data: bytes) -> int:
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def damaged_scan(data: bytes, place: float) -> bytes:
    """Overwrite a few bytes in the middle of the entropy-coded data."""
    start = scan_start(data)
    at = start + int((len(data) - start) * place)
    return data[:at] + b"\x55\x2a\x13\x77" * 4 + data[at + 16 :]


def test_damage_within_a_jpeg_scan_is_found() -> None:
    found = 0
    for place in np.linspace(0.05, 0.9, 20):
        try:
            decode_image(damaged_scan(PLAIN, float(place)))
        except ImageError as error:
            found += error.reason in {"corrupt", "truncated"}
    assert found >= 14  # Pillow alone finds none


HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "trailing bytes": lambda data: data + b"trailing" * 9,
    "a second image behind": lambda data: data + data,
    "no end marker": lambda data: data[:-2],
    "half an end marker": lambda data: data[:-1],
    "zeros before the end": lambda data: data[:-2] + bytes(500) + data[-2:],
    "some bytes before the end": lambda data: data[:-2] + b"\x12\x34" + data[-2:],
    "bytes between segments": lambda data: data[:20] + b"\x01\x02\x03" + data[20:],
    "unknown JFIF version": lambda data: data.replace(b"JFIF\0\1\1", b"JFIF\0\7\1"),
    "fill bytes": lambda data: data[:2] + b"\xff" * 5 + data[2:],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_faults_of_a_jpeg_do_not_cost_the_image(name: str) -> None:
    changed = HARMLESS[name](PLAIN)
    assert changed != PLAIN
    np.testing.assert_array_equal(decode_image(changed).pixels, decode_image(PLAIN).pixels)


def test_a_progressive_jpeg_without_its_end_is_refused() -> None:
    # Its last scans may be missing, and the image would be blurred.
    assert reason_of(FILES["jpeg-progressive"][:-2]) == "truncated"
