from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, ImageFile
from skimage import data as photos

from featureid.errors import ImageError, UsageError
from featureid.images import DecodedImage, DecodeLimits, decode_image, resize_image

PHOTO = Image.fromarray(photos.astronaut()).resize((60, 44))
RGB = np.asarray(PHOTO).astype(int)
NO_AVIF = pytest.mark.skipif(not AvifImagePlugin.SUPPORTED, reason="this Pillow has no AVIF")


def encode(image, format_, **options):
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "a maker"
    return block.tobytes()


def heic(image, **options):
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def with_chunks(png, *chunks):
    """Put chunks behind IHDR."""
    return png[:33] + b"".join(chunks) + png[33:]


def raw_png(width, height, depth, color, rows, *chunks):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            *chunks,
            png_chunk(b"IDAT", zlib.compress(rows)),
            png_chunk(b"IEND", b""),
        ]
    )


def reason_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    assert caught.value.stage == "decode"
    assert len(str(caught.value)) > 20
    return caught.value.reason


def difference(result, expected):
    assert result.pixels.shape == expected.shape
    return abs(result.pixels.astype(int) - expected).mean()


def build_files():
    files = {
        "jpeg": encode(PHOTO, "JPEG", quality=95, exif=exif(1)),
        "jpeg-progressive": encode(PHOTO, "JPEG", quality=95, progressive=True),
        "jpeg-cmyk": encode(PHOTO.convert("CMYK"), "JPEG", quality=95),
        "png": encode(PHOTO, "PNG"),
        "webp": encode(PHOTO, "WEBP", quality=95),
        "webp-lossless": encode(PHOTO, "WEBP", lossless=True),
        "gif": encode(PHOTO, "GIF"),
        "bmp": encode(PHOTO, "BMP"),
        "tiff": encode(PHOTO, "TIFF"),
        "tiff-big": encode(PHOTO, "TIFF", big_tiff=True),
        "ppm": encode(PHOTO, "PPM"),
    }
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        files[f"tiff-{compression}"] = encode(PHOTO, "TIFF", compression=compression)
    if AvifImagePlugin.SUPPORTED:
        files["avif"] = encode(PHOTO, "AVIF", quality=95)
    return files


FILES = build_files()


# What every format gives


@pytest.mark.parametrize("name", FILES)
def test_every_format_gives_the_picture(name):
    result = decode_image(FILES[name])
    assert result.pixels.dtype == np.uint8
    assert result.pixels.flags.c_contiguous
    assert (result.width, result.height) == (60, 44)
    assert result.format == name.split("-")[0].upper()
    exact = name in {"png", "webp-lossless", "bmp", "ppm"} or (
        name.startswith("tiff") and name != "tiff-jpeg"
    )
    assert difference(result, RGB) <= (0 if exact else 7)


def test_heic():
    result = decode_image(heic(PHOTO, quality=95))
    assert result.format == "HEIC"
    assert difference(result, RGB) < 7


def test_heic_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    data = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0\0\0\x08free"
    with pytest.raises(ImageError, match=r"featureid\[heif\]") as caught:
        decode_image(data)
    assert caught.value.reason == "unsupported"


def test_mpo_gives_its_first_picture():
    two = encode(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(90)], quality=95)
    assert Image.open(io.BytesIO(two)).n_frames == 2
    result = decode_image(two)
    assert result.format == "JPEG"
    assert difference(result, RGB) < 7


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_of_several_frames(format_):
    frames = [Image.new("RGB", (9, 5), color) for color in ((255, 0, 0), (0, 0, 255))]
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data).pixels == (255, 0, 0)).all()


# Pixel modes


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP", "PPM"])
def test_bilevel(format_):
    bits = PHOTO.convert("1")
    expected = np.asarray(bits.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(bits, format_)).pixels, expected)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP", "PPM", "JPEG"])
def test_gray(format_):
    gray = PHOTO.convert("L")
    result = decode_image(encode(gray, format_, **({"quality": 95} if format_ == "JPEG" else {})))
    assert difference(result, np.asarray(gray.convert("RGB")).astype(int)) < 2


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "GIF", "BMP"])
def test_palette(format_):
    palette = PHOTO.quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encode(palette, format_)).pixels, expected)


@pytest.mark.parametrize("format_", ["PNG", "TIFF", "PPM"])
def test_16_bit_gray_keeps_its_high_byte(format_):
    deep = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    result = decode_image(encode(Image.fromarray(deep), format_)).pixels
    assert (result == (deep >> 8).astype(np.uint8)[:, :, None]).all()


def test_16_bit_rgb_keeps_its_high_byte():
    rows = b"\0" + b"".join(struct.pack(">3H", 0x1234, 0xABCD, value << 8) for value in range(4))
    result = decode_image(raw_png(4, 1, 16, 2, rows)).pixels
    assert result.tolist() == [[[0x12, 0xAB, value] for value in range(4)]]


def test_float_tiff_is_taken_from_0_to_1():
    data = encode(Image.fromarray(np.array([[0, 0.5, 1]], np.float32)), "TIFF")
    assert decode_image(data).pixels[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("value", [1.5, -0.1, float("nan")])
def test_float_tiff_of_unknown_range_is_refused(value):
    data = encode(Image.fromarray(np.array([[0, value]], np.float32)), "TIFF")
    assert reason_of(data) == "unsupported"


def test_32_bit_integers_and_lab_are_refused():
    assert reason_of(encode(Image.fromarray(np.array([[70000]], np.int32)), "TIFF")) == (
        "unsupported"
    )
    assert reason_of(encode(Image.new("LAB", (4, 4)), "TIFF")) == "unsupported"


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk(format_):
    inks = Image.merge("CMYK", [Image.new("L", (16, 16), ink) for ink in (0, 255, 128, 40)])
    expected = np.asarray(inks.convert("RGB")).astype(int)
    assert difference(decode_image(encode(inks, format_)), expected) < 2


def test_cmyk_jpeg_of_other_programs_is_not_inverted():
    data = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")  # Adobe's inverse of red
    at = data.index(b"\xff\xee")
    without_adobe = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert abs(decode_image(data).pixels.astype(int) - (255, 0, 0)).max() < 4
    assert abs(decode_image(without_adobe).pixels.astype(int) - (0, 0, 0)).max() < 4


# Transparency


@pytest.mark.parametrize(("mode", "formats"), [("RGBA", ["PNG", "TIFF", "WEBP"]), ("LA", ["PNG"])])
def test_alpha_is_composited_on_white(mode, formats):
    for format_ in formats:
        image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
        image.putpixel((1, 0), (0, 0, 0, 0))
        image.putpixel((2, 0), (0, 0, 0, 51))
        options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
        result = decode_image(encode(image.convert(mode), format_, **options)).pixels
        assert result[0, :, 0].tolist() == [0, 255, 204]


@NO_AVIF
def test_alpha_in_avif_and_heic():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    assert (decode_image(encode(image, "AVIF")).pixels > 250).all()
    assert (decode_image(heic(image)).pixels > 250).all()


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
@pytest.mark.parametrize("format_", ["PNG", "GIF"])
def test_transparent_palette_entry(format_, transparency):
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
def test_transparent_color_of_a_png(depth, color, row, key, expected):
    data = raw_png(2, 1, depth, color, b"\0" + row, png_chunk(b"tRNS", key))
    assert decode_image(data).pixels[0, :, 0].tolist() == expected


def test_empty_alpha_of_a_bmp_means_opaque():
    image = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    assert (decode_image(encode(image, "BMP")).pixels == (10, 20, 30)).all()


# Orientation


def turned_back(orientation):
    """The stored picture that a viewer shows as PHOTO."""
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
def test_exif_orientation(format_, orientation):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format_, {})
    data = encode(turned_back(orientation), format_, exif=exif(orientation), **options)
    result = decode_image(data)
    assert (result.width, result.height) == (60, 44)
    assert difference(result, RGB) <= (7 if format_ == "JPEG" else 0)


@NO_AVIF
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_orientation_of_avif(orientation):
    data = encode(turned_back(orientation), "AVIF", exif=exif(orientation), quality=95)
    assert difference(decode_image(data), RGB) < 7


def test_orientation_of_heic():
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
def test_damaged_exif_does_not_cost_the_picture(format_, block):
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


# Size limits and scaled decoding


@pytest.mark.parametrize("name", FILES)
def test_the_limit_holds_for_every_format(name):
    decode_image(FILES[name], limits=DecodeLimits(max_pixels=60 * 44))
    limits = DecodeLimits(max_pixels=60 * 44 - 1)
    assert reason_of(FILES[name], limits=limits) == "too-many-pixels"


def test_a_tiny_file_that_claims_a_huge_picture():
    bomb = raw_png(50_000, 50_000, 8, 2, b"\0" * 1000)
    assert len(bomb) < 200
    assert reason_of(bomb) == "too-many-pixels"
    webp = bytearray(FILES["webp"])
    webp[26:30] = b"\xff\x3f\xff\x3f"
    assert reason_of(bytes(webp)) == "too-many-pixels"
    gif = bytearray(FILES["gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    assert reason_of(bytes(gif)) == "too-many-pixels"


def test_a_huge_jpeg_passes_when_decoded_small():
    data = encode(Image.new("L", (9000, 8000), 90), "JPEG")
    assert reason_of(data) == "too-many-pixels"
    result = decode_image(data, min_size=(224, 224))
    assert result.pixels.shape == (1000, 1125, 3)
    assert (result.width, result.height) == (9000, 8000)


def test_a_progressive_jpeg_counts_in_full():
    data = encode(Image.new("L", (800, 800)), "JPEG", progressive=True)
    limits = DecodeLimits(max_pixels=100_000)
    assert reason_of(data, min_size=(32, 32), limits=limits) == "too-many-pixels"


def test_a_jpeg_of_endless_scans_is_refused():
    data = FILES["jpeg-progressive"]
    last = data.rindex(b"\xff\xda")
    assert reason_of(data[:-2] + data[last:-2] * 600 + data[-2:]) == "unsupported"


@pytest.mark.parametrize("orientation", [1, 6])
def test_scaled_decoding_stays_above_twice_the_target(orientation):
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


def test_a_picture_below_the_target_is_decoded_in_full():
    for size in [(1, 1), (2, 3), (700, 5)]:
        data = encode(Image.new("RGB", size, (200, 100, 50)), "JPEG", quality=95)
        result = decode_image(data, min_size=(224, 224))
        assert result.pixels.shape == (size[1], size[0], 3)
        assert abs(result.pixels.astype(int) - (200, 100, 50)).max() < 6


# Damage


def test_nothing_and_no_image():
    assert reason_of(b"") == "empty"
    for data, words in [
        (b"hello, this is not an image at all", "text"),
        (b"%PDF-1.7 and so on and so on", "PDF"),
        (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", "video"),
        (b"BMW builds cars and not bitmaps", "text"),
        (b"\x93\x01\x02" * 20, "no known image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9", "PostScript"),
    ]:
        assert reason_of(data) == "not-an-image"
        with pytest.raises(ImageError, match=words):
            decode_image(data)


@pytest.mark.parametrize("name", FILES)
def test_cut_near_the_ends(name):
    data, whole = FILES[name], decode_image(FILES[name]).pixels
    for length in [*range(1, 60, 7), *range(len(data) - 40, len(data))]:
        check_cut(data[:length], whole)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(FILES)), part=st.floats(0, 1, exclude_max=True))
def test_cut_anywhere(name, part):
    data = FILES[name]
    check_cut(data[: int(len(data) * part)], decode_image(data).pixels)


def check_cut(cut, whole):
    try:
        result = decode_image(cut)
    except ImageError as error:
        assert error.reason in {"empty", "truncated"} or (
            error.reason == "not-an-image" and len(cut) < 12
        )
    else:
        np.testing.assert_array_equal(result.pixels, whole)


@pytest.mark.parametrize("length", [0.1, 0.5, 0.9, 0.999])
def test_cut_heic(length):
    data = heic(PHOTO)
    assert reason_of(data[: int(len(data) * length)]) == "truncated"


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_never_escape(name, capfd):
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


def test_a_png_with_a_wrong_checksum_is_corrupt():
    data = bytearray(FILES["png"])
    data[len(data) // 2] ^= 4
    assert reason_of(bytes(data)) == "corrupt"


def test_a_png_keeps_its_picture_despite_bad_metadata():
    bad = [
        png_chunk(b"acTL", b"\0"),
        png_chunk(b"pHYs", b"\0"),
        png_chunk(b"zTXt", b"key\0\0not zlib"),
        b"\0\0\0\1tEXtxABCD",
        png_chunk(b"iCCP", b"bad"),
    ]
    np.testing.assert_array_equal(decode_image(with_chunks(FILES["png"], *bad)).pixels, RGB)
    assert reason_of(with_chunks(FILES["png"], png_chunk(b"CgBI", b"1234"))) == "unsupported"


def test_a_tiff_without_its_strips_is_not_black():
    strips = encode(PHOTO, "TIFF", tiffinfo={278: 10})
    whole = decode_image(strips).pixels
    np.testing.assert_array_equal(whole, RGB)
    at = strips.index(struct.pack("<HHI", 278, 4, 1))  # rows per strip, one LONG
    fewer = strips[: at + 8] + struct.pack("<H", 1) + strips[at + 10 :]
    assert reason_of(fewer) == "corrupt"


PLAIN = encode(Image.fromarray(photos.astronaut()).resize((320, 240)), "JPEG", quality=88)


def scan_start(data):
    at = data.index(b"\xff\xda")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def damaged_scan(data, place):
    """Overwrite a few bytes in the middle of the entropy-coded data."""
    start = scan_start(data)
    at = start + int((len(data) - start) * place)
    return data[:at] + b"\x55\x2a\x13\x77" * 4 + data[at + 16 :]


def test_damage_within_a_jpeg_scan_is_found():
    found = 0
    for place in np.linspace(0.05, 0.9, 20):
        try:
            decode_image(damaged_scan(PLAIN, float(place)))
        except ImageError as error:
            found += error.reason in {"corrupt", "truncated"}
    assert found >= 14  # Pillow alone finds none


HARMLESS = {
    "trailing bytes": lambda data: data + b"trailing" * 9,
    "a second picture behind": lambda data: data + data,
    "no end marker": lambda data: data[:-2],
    "half an end marker": lambda data: data[:-1],
    "zeros before the end": lambda data: data[:-2] + bytes(500) + data[-2:],
    "some bytes before the end": lambda data: data[:-2] + b"\x12\x34" + data[-2:],
    "bytes between segments": lambda data: data[:20] + b"\x01\x02\x03" + data[20:],
    "unknown JFIF version": lambda data: data.replace(b"JFIF\0\1\1", b"JFIF\0\7\1"),
    "fill bytes": lambda data: data[:2] + b"\xff" * 5 + data[2:],
}


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_faults_of_a_jpeg_do_not_cost_the_picture(name):
    changed = HARMLESS[name](PLAIN)
    assert changed != PLAIN
    np.testing.assert_array_equal(decode_image(changed).pixels, decode_image(PLAIN).pixels)


def test_a_progressive_jpeg_without_its_end_is_refused():
    # Its last scans may be missing, and the picture would be a blurred one.
    assert reason_of(FILES["jpeg-progressive"][:-2]) == "truncated"


# Threads and global state


def test_four_threads_equal_one():
    files = [*FILES.values(), heic(PHOTO), PLAIN] * 3
    serial = [decode_image(data).pixels for data in files]
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(lambda data: decode_image(data).pixels, files))
    for one, other in zip(serial, parallel, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FILES)
def test_globals_of_pillow_do_not_matter(name, monkeypatch):
    expected = decode_image(FILES[name]).pixels
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    np.testing.assert_array_equal(decode_image(FILES[name]).pixels, expected)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert reason_of(FILES[name][: len(FILES[name]) * 2 // 3]) == "truncated"


@pytest.mark.parametrize("field", ["max_pixels", "max_bytes"])
def test_limits_are_positive(field):
    with pytest.raises(UsageError, match=field):
        DecodeLimits(**{field: 0})


def test_min_size_is_positive():
    with pytest.raises(ValueError, match="min_size"):
        decode_image(PLAIN, min_size=(0, 9))
