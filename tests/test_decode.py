"""Decoding: every format, limits, scaled decoding, threads."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageFile
from skimage import data as photos

from featureid.errors import ImageError, UsageError
from featureid.images import DecodeLimits, decode_image, resize_image
from tests.image_files import FILES, PHOTO, RGB, difference, encode, exif, heic, raw_png, reason_of

# What every format gives


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_image(name: str) -> None:
    result = decode_image(FILES[name])
    assert result.pixels.dtype == np.uint8
    assert result.pixels.flags.c_contiguous
    assert (result.width, result.height) == (60, 44)
    assert result.format == name.split("-")[0].upper()
    exact = name in {"png", "webp-lossless", "bmp", "ppm"} or (
        name.startswith("tiff") and name != "tiff-jpeg"
    )
    assert difference(result, RGB) <= (0 if exact else 7)


def test_heic() -> None:
    result = decode_image(heic(PHOTO, quality=95))
    assert result.format == "HEIC"
    assert difference(result, RGB) < 7


def test_heic_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08mdat"
    with pytest.raises(ImageError, match=r"featureid\[heif\]") as caught:
        decode_image(data)
    assert caught.value.reason == "unsupported"


def test_mpo_gives_its_first_image() -> None:
    two = encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)], quality=95)
    assert getattr(Image.open(io.BytesIO(two)), "n_frames", 1) == 2
    result = decode_image(two)
    assert result.format == "JPEG"
    assert difference(result, RGB) < 7


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames(format_: str) -> None:
    frames = [Image.new("RGB", (9, 5), color) for color in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data).pixels == (255, 0, 0)).all()


# Size limits and scaled decoding


@pytest.mark.parametrize("name", FILES)
def test_the_limit_holds_for_every_format(name: str) -> None:
    decode_image(FILES[name], limits=DecodeLimits(max_pixels=60 * 44))
    limits = DecodeLimits(max_pixels=60 * 44 - 1)
    assert reason_of(FILES[name], limits=limits) == "too-many-pixels"


def test_a_tiny_file_that_claims_a_huge_image() -> None:
    bomb = raw_png(50_000, 50_000, 8, 2, b"\0" * 1000)
    assert len(bomb) < 200
    assert reason_of(bomb) == "too-many-pixels"
    webp = bytearray(FILES["webp"])
    webp[26:30] = b"\xff\x3f\xff\x3f"
    assert reason_of(bytes(webp)) == "too-many-pixels"
    gif = bytearray(FILES["gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(gif)) == "too-many-pixels"


def test_a_huge_jpeg_passes_when_decoded_small() -> None:
    data = encode(Image.new("L", (9000, 8000), 90), "JPEG")
    assert reason_of(data) == "too-many-pixels"
    result = decode_image(data, min_size=(224, 224))
    assert result.pixels.shape == (1000, 1125, 3)
    assert (result.width, result.height) == (9000, 8000)


def test_a_progressive_jpeg_counts_in_full() -> None:
    data = encode(Image.new("L", (800, 800)), "JPEG", progressive=True)
    limits = DecodeLimits(max_pixels=100_000)
    assert reason_of(data, min_size=(32, 32), limits=limits) == "too-many-pixels"


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = FILES["jpeg-progressive"]
    last = data.rindex(b"\xff\xda")
    assert reason_of(data[:-2] + data[last:-2] * 600 + data[-2:]) == "unsupported"


@pytest.mark.parametrize("orientation", [1, 6])
def test_scaled_decoding_stays_above_twice_the_target(orientation: int) -> None:
    stored = Image.fromarray(photos.coffee())  # 600 x 400
    data = encode(stored, "JPEG", exif=exif(orientation))
    upright = (400, 600) if orientation == 1 else (600, 400)
    for min_size, scale in [((100, 100), 2), ((40, 40), 4), ((20, 20), 8), ((101, 301), 1)]:
        result = decode_image(data, min_size=min_size)
        assert result.pixels.shape == (upright[0] // scale, upright[1] // scale, 3)
        assert (result.height, result.width) == upright
    full = resize_image(decode_image(data).pixels, 96, 96).astype(int)
    scaled = resize_image(decode_image(data, min_size=(96, 96)).pixels, 96, 96).astype(int)
    assert abs(full - scaled).mean() < 0.6


def test_an_image_below_the_target_is_decoded_in_full() -> None:
    for size in [(1, 1), (2, 3), (700, 5)]:
        data = encode(Image.new("RGB", size, (200, 100, 50)), "JPEG", quality=95)
        result = decode_image(data, min_size=(224, 224))
        assert result.pixels.shape == (size[1], size[0], 3)
        assert abs(result.pixels.astype(int) - (200, 100, 50)).max() < 6


# Threads and global state


def test_four_threads_equal_one() -> None:
    files = [*FILES.values(), heic(PHOTO)] * 3
    serial = [decode_image(data).pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda data: decode_image(data).pixels, files))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FILES)
def test_globals_of_pillow_do_not_matter(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decode_image(FILES[name]).pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    np.testing.assert_array_equal(decode_image(FILES[name]).pixels, expected)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert reason_of(FILES[name][: len(FILES[name]) * 2 // 3]) == "truncated"


@pytest.mark.parametrize("field", ["max_pixels", "max_bytes"])
def test_limits_are_positive(field: str) -> None:
    with pytest.raises(UsageError, match=field):
        DecodeLimits(**{field: 0})


def test_min_size_is_positive() -> None:
    with pytest.raises(ValueError, match="min_size"):
        decode_image(FILES["jpeg"], min_size=(0, 9))
