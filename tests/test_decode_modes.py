"""What decoding makes of pixel modes, transparency and orientation."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featureid.images import decode_image
from tests.image_files import (
    NO_AVIF,
    PHOTO,
    RGB,
    difference,
    encode,
    exif,
    heic,
    png_chunk,
    raw_png,
    reason_of,
)

# Pixel modes


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP", "PPM"])
def test_bilevel(format_: str) -> None:
    bits = PHOTO.convert("1")
    expected = np.asarray(bits.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(bits, format_)).pixels, expected)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP", "PPM", "JPEG"])
def test_gray(format_: str) -> None:
    gray = PHOTO.convert("L")
    result = decode_image(encode(gray, format_, **({"quality": 95} if format_ == "JPEG" else {})))
    assert difference(result, np.asarray(gray.convert("RGB")).astype(int)) < 2


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP"])
def test_palette(format_: str) -> None:
    palette = PHOTO.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(palette, format_)).pixels, expected)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_keeps_its_high_byte(format_: str) -> None:
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    result = decode_image(encode(Image.fromarray(deep), format_)).pixels
    assert (result == (deep >> 8).astype(np.uint8)[:, :, None]).all()


def test_16_bit_rgb_keeps_its_high_byte() -> None:
    rows = b"\0" + b"".join(struct.pack(">3H", 0x1234, 0xABCD, value << 8) for value in range(4))
    result = decode_image(raw_png(4, 1, 16, 2, rows)).pixels
    assert result.tolist() == [[[0x12, 0xAB, value] for value in range(4)]]


def test_float_tiff_is_taken_from_0_to_1() -> None:
    data = encode(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF")
    assert decode_image(data).pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_float_tiff_of_unknown_range_is_refused(value: float) -> None:
    data = encode(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
    assert reason_of(data) == "unsupported"


def test_32_bit_integers_and_lab_are_refused() -> None:
    assert reason_of(encode(Image.fromarray(np.array([[70000]], np.int32)), "TIFF")) == (
        "unsupported"
    )
    assert reason_of(encode(Image.new("LAB", (4, 4)), "TIFF")) == "unsupported"


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk(format_: str) -> None:
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 255, 128, 40)])
    expected = np.asarray(inks.convert("RGB")).astype(int)
    assert difference(decode_image(encode(inks, format_)), expected) < 2


def test_cmyk_jpeg_of_other_programs_is_not_inverted() -> None:
    data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")  # Adobe's inverse of red
    at = data.index(b"\xff\xee")
    without_adobe = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert abs(decode_image(data).pixels.astype(int) - (255, 0, 0)).max() < 4
    assert abs(decode_image(without_adobe).pixels.astype(int) - (0, 0, 0)).max() < 4


# Transparency


@pytest.mark.parametrize(("mode", "formats"), [("RGBA", ["PNG", "TIFF", "WEBP"]), ("LA", ["PNG"])])
def test_alpha_is_composited_on_white(mode: str, formats: list[str]) -> None:
    for format_ in formats:
        image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
        image.putpixel((1, 0), (0, 0, 0, 0))
        image.putpixel((2, 0), (0, 0, 0, 51))
        options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
        result = decode_image(encode(image.convert(mode), format_, **options)).pixels
        assert result[0, :, 0].tolist() == [0, 255, 204]


@NO_AVIF
def test_alpha_in_avif_and_heic() -> None:
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (decode_image(encode(image, "AVIF")).pixels > 250).all()
    assert (decode_image(heic(image)).pixels > 250).all()


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
@pytest.mark.parametrize("format_", ["PNG", "GIF"])
def test_transparent_palette_entry(format_: str, transparency: int | bytes) -> None:
    if format_ == "GIF" and isinstance(transparency, bytes):
        transparency = 1
    image = Image.new("P", (3, 1))
    image.putpalette([9, 9, 9, 50, 60, 70, 200, 100, 0])
    image.putdata([0, 1, 2])
    result = decode_image(encode(image, format_, transparency=transparency)).pixels
    assert result.tolist() == [[[9, 9, 9], [255, 255, 255], [200, 100, 0]]]


@pytest.mark.parametrize(
    ("depth", "color", "row", "key", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [0, 255]),
        (2, 0, b"\x10", b"\0\1", [0, 255]),
        (4, 0, b"\x3f", b"\0\3", [255, 255]),
        (8, 0, b"\x03\x04", b"\0\3", [255, 4]),
        (16, 0, b"\x03\x01\x03\x02", b"\3\1", [255, 3]),
        (8, 2, b"\1\1\1\2\2\2", b"\0\1\0\1\0\1", [255, 2]),
        (16, 2, b"\1\0" * 3 + b"\2\0" * 3, b"\1\0" * 3, [255, 2]),
    ],
)
def test_transparent_color_of_a_png(
    depth: int, color: int, row: bytes, key: bytes, expected: list[int]
) -> None:
    data = raw_png(2, 1, depth, color, b"\0" + row, png_chunk(b"tRNS", key))
    assert decode_image(data).pixels[0, :, 0].tolist() == expected


def test_empty_alpha_of_a_bmp_means_opaque() -> None:
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert (decode_image(encode(image, "BMP")).pixels == (10, 20, 30)).all()


# Orientation


def turned_back(orientation: int) -> Image.Image:
    """Return the stored image that a viewer shows as PHOTO."""
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return PHOTO.transpose(inverse[orientation]) if orientation > 1 else PHOTO


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation(format_: str, orientation: int) -> None:
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}
    more = options.get(format_, {})
    data = encode(turned_back(orientation), format_, exif=exif(orientation), **more)
    result = decode_image(data)
    assert (result.width, result.height) == (60, 44)
    assert difference(result, RGB) <= (7 if format_ == "JPEG" else 0)


@NO_AVIF
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_of_avif(orientation: int) -> None:
    data = encode(turned_back(orientation), "AVIF", exif=exif(orientation), quality=95)
    assert difference(decode_image(data), RGB) < 7


def test_orientation_of_heic() -> None:
    data = heic(turned_back(6), quality=95, exif=exif(6))
    assert difference(decode_image(data), RGB) < 7


DAMAGED_EXIF = [
    b"",
    b"Exif\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\3",
    b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x63\0\0\0",
    b"Exif\0\0garbage",
    exif(6)[:-5],
]


@pytest.mark.parametrize("block", DAMAGED_EXIF)
@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", pytest.param("AVIF", marks=NO_AVIF)])
def test_damaged_exif_does_not_cost_the_image(format_: str, block: bytes) -> None:
    if format_ == "AVIF":
        # An encoder refuses such a block: damage an intact one.
        data = (
            encode(PHOTO, format_, exif=exif(1))
            .replace(b"MM\0*", b"garb")
            .replace(b"II*\0", b"garb")
        )
    else:
        data = encode(PHOTO, format_, exif=block)
    assert decode_image(data).pixels.shape in {(44, 60, 3), (60, 44, 3)}
