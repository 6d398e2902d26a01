"""TIFF: which page is shown, what some writers leave out, and what hostile files cost."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from featureid.images import decode_image
from featureid.images.tiff_directory import Tag, TiffReader
from tests.image_files import RGB, difference, reason_of

PIXELS = RGB.astype(np.uint8)
GRAY = PIXELS[:, :, 1]
SMALL = PIXELS[::8, ::8].copy()
ALPHA = np.tile(np.linspace(0, 255, GRAY.shape[1]).astype(np.uint8), (GRAY.shape[0], 1))


def tiff(*pages: tuple[npt.NDArray[Any], dict[str, Any]], **options: Any) -> bytes:
    """Return a TIFF file of pages with the arguments that tifffile takes for each."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with tifffile.TiffWriter(buffer, **options) as writer:
            for pixels, arguments in pages:
                writer.write(pixels, **{"metadata": None, **arguments})
    return buffer.getvalue()


def page(**tags: Any) -> bytes:
    """Return a little-endian TIFF of 4 x 2 gray pixels, with other values for some tags.

    A value is a list of shorts (or of longs, if one needs it), or None to leave the tag out.
    """
    pixels = bytes(range(0, 80, 10))
    fields: dict[str, list[int] | None] = {
        "WIDTH": [4],
        "HEIGHT": [2],
        "BITS": [8],
        "COMPRESSION": [1],
        "PHOTOMETRIC": [1],
        "STRIP_OFFSETS": [8],
        "SAMPLES": [1],
        "ROWS_PER_STRIP": [2],
        "STRIP_COUNTS": [8],
        **tags,
    }
    known = {name: values for name, values in fields.items() if values is not None}
    start = 8 + len(pixels)
    entries, tail = [], b""
    for name, values in sorted(known.items(), key=lambda item: Tag[item[0]]):
        kind, code = (3, "H") if max(values) < 1 << 16 else (4, "I")
        raw = struct.pack(f"<{len(values)}{code}", *values)
        if len(raw) > 4:
            place = start + 2 + 12 * len(known) + 4 + len(tail)
            tail += raw
            raw = struct.pack("<I", place)
        entries.append(struct.pack("<HHI", Tag[name], kind, len(values)) + raw.ljust(4, b"\0"))
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4) + tail
    return b"II*\0" + struct.pack("<I", start) + pixels + directory


FIRST_ROW = [0, 10, 20, 30]


def first_row(data: bytes) -> list[int]:
    """Return the red values of the first row."""
    values: list[int] = decode_image(data).pixels[0, :, 0].tolist()
    return values


# Which page


def test_a_thumbnail_before_the_image_is_skipped() -> None:
    data = tiff((SMALL, {"subfiletype": 1}), (PIXELS, {}), (PIXELS[::-1], {}))
    assert difference(decode_image(data), RGB) == 0


@pytest.mark.parametrize("subfiletype", [0, 1])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_larger_image_below_a_preview_is_shown(
    subfiletype: int, byteorder: str, bigtiff: bool
) -> None:
    data = tiff(
        (SMALL, {"subfiletype": subfiletype, "subifds": 2}),
        (PIXELS[::2, ::2].copy(), {"subfiletype": 1}),
        (PIXELS, {}),
        byteorder=byteorder,
        bigtiff=bigtiff,
    )
    assert difference(decode_image(data), RGB) == 0


def test_smaller_images_below_a_page_do_not_matter() -> None:
    data = tiff((PIXELS, {"subifds": 1}), (SMALL, {"subfiletype": 1}), (PIXELS[::-1], {}))
    assert difference(decode_image(data), RGB) == 0


def test_a_mask_before_the_image_is_skipped() -> None:
    mask = np.zeros(GRAY.shape, bool)
    data = tiff((mask, {"subfiletype": 4, "photometric": "mask"}), (PIXELS, {}))
    assert difference(decode_image(data), RGB) == 0


def test_a_file_of_several_thumbnails_is_unsupported_and_a_single_page_shown() -> None:
    thumbnail = (SMALL, {"subfiletype": 1})
    assert reason_of(tiff(thumbnail, thumbnail)) == "unsupported"
    np.testing.assert_array_equal(decode_image(tiff(thumbnail)).pixels, SMALL)


def test_directories_in_a_circle_end() -> None:
    data = bytearray(page(NEW_SUBFILE_TYPE=[1]))
    start = struct.unpack_from("<I", data, 4)[0]
    at = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    data[at : at + 4] = struct.pack("<I", start)
    assert first_row(bytes(data)) == FIRST_ROW


def test_a_page_below_that_cannot_be_read_costs_only_a_thumbnail() -> None:
    assert first_row(page(SUB_DIRECTORIES=[60_000])) == FIRST_ROW
    assert reason_of(page(SUB_DIRECTORIES=[60_000], NEW_SUBFILE_TYPE=[1])) == "truncated"


@pytest.mark.parametrize("photometric", [32803, 34892])
def test_camera_raw_is_unsupported(photometric: int) -> None:
    sensor = (GRAY if photometric == 32803 else PIXELS, {"photometric": photometric})
    assert reason_of(tiff(sensor)) == "unsupported"
    preview = (SMALL, {"subfiletype": 1, "subifds": 1})
    assert reason_of(tiff(preview, sensor)) == "unsupported"
    assert reason_of(tiff((SMALL, {"subfiletype": 1}), sensor)) == "unsupported"


def test_a_dng_file_is_unsupported() -> None:
    assert reason_of(page(DNG_VERSION=[1, 4])) == "unsupported"


# Samples


def _with_alpha(colors: npt.NDArray[np.uint8], associated: bool) -> npt.NDArray[np.uint8]:
    part = ALPHA[:, :, None] / 255 if associated else 1
    return np.dstack([np.rint(colors * part).astype(np.uint8), ALPHA])


ON_WHITE = RGB * (ALPHA[:, :, None] / 255) + 255 - ALPHA[:, :, None]
SAMPLES: dict[str, tuple[npt.NDArray[Any], dict[str, Any], npt.NDArray[Any]]] = {
    "rgb": (PIXELS, {"photometric": "rgb"}, RGB),
    "alpha": (
        _with_alpha(PIXELS, False),
        {"photometric": "rgb", "extrasamples": ["unassalpha"]},
        ON_WHITE,
    ),
    "associated alpha": (
        _with_alpha(PIXELS, True),
        {"photometric": "rgb", "extrasamples": ["assocalpha"]},
        ON_WHITE,
    ),
    "unspecified sample": (
        _with_alpha(PIXELS, False),
        {"photometric": "rgb", "extrasamples": ["unspecified"]},
        RGB,
    ),
    "cmyk": (
        np.dstack([255 - PIXELS, np.zeros_like(GRAY)]),
        {"photometric": "separated"},
        RGB,
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("layout", ["strips", "tiles", "deflate"])
def test_every_layout_of_samples_is_shown_alike(
    name: str, depth: int, planes: bool, byteorder: str, layout: str
) -> None:
    pixels, arguments, expected = SAMPLES[name]
    if depth == 16:
        pixels = pixels.astype(np.uint16) * 257
    if planes:
        pixels = np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    options: dict[str, Any] = {
        "strips": {"rowsperstrip": 7},
        "tiles": {"tile": (16, 32)},
        "deflate": {"compression": "zlib", "predictor": True},
    }
    planar = "separate" if planes else "contig"
    data = tiff(
        (pixels, {**arguments, **options[layout], "planarconfig": planar}), byteorder=byteorder
    )
    assert difference(decode_image(data), expected) < 1


def test_three_deep_planes_as_tifffile_writes_any_array_are_not_taken_for_colors() -> None:
    planes = np.ascontiguousarray(np.moveaxis(PIXELS, -1, 0)).astype(np.uint16) * 257
    assert reason_of(tiff((planes, {"metadata": {}}))) == "unsupported"


def test_16_bit_gray_in_which_0_is_white() -> None:
    for byteorder in "<>":
        deep = (65535 - GRAY.astype(np.uint16) * 257, {"photometric": "miniswhite"})
        result = decode_image(tiff(deep, byteorder=byteorder))
        assert difference(result, np.repeat(GRAY[:, :, None], 3, axis=2)) == 0


def test_compressed_big_endian_floats_are_unsupported() -> None:
    # Pillow swaps their bytes twice: 1.0 would become 0.
    floats = np.ones((9, 9), np.float32)
    options = {"photometric": "minisblack", "compression": "zlib"}
    assert (decode_image(tiff((floats, options))).pixels == 255).all()
    assert reason_of(tiff((floats, options), byteorder=">")) == "unsupported"


def test_a_palette_of_8_bits_is_not_black() -> None:
    colors = [[9, 90, 200], [8, 80, 100], [7, 70, 250]]
    table = [colors[band][index % 3] for band in range(3) for index in range(256)]
    for scale in (1, 256, 257):
        data = page(PHOTOMETRIC=[3], COLOR_MAP=[value * scale for value in table])
        assert decode_image(data).pixels[0, :2].tolist() == [[9, 8, 7], [90, 80, 70]]


def test_tags_that_writers_leave_out() -> None:
    for tag in ("PHOTOMETRIC", "SAMPLES", "ROWS_PER_STRIP", "STRIP_COUNTS"):
        assert first_row(page(**{tag: None})) == FIRST_ROW
    assert first_row(page(ROWS_PER_STRIP=[0])) == FIRST_ROW


def test_of_a_repeated_tag_the_first_counts() -> None:
    data = bytearray(page())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        if struct.unpack_from("<H", data, entry) == (Tag.ROWS_PER_STRIP,):
            struct.pack_into("<HHII", data, entry, Tag.WIDTH, 3, 1, 2)
    assert first_row(bytes(data)) == FIRST_ROW


def test_a_single_plane_of_16_bits() -> None:
    # The bytes of a row are 0, 10, 20, 30.
    assert first_row(page(BITS=[16], WIDTH=[2], PLANAR=[2])) == [10, 30]


def test_other_inks_than_cmyk_are_unsupported() -> None:
    four = {"SAMPLES": [4], "BITS": [8] * 4, "WIDTH": [1], "PHOTOMETRIC": [5]}
    assert first_row(page(**four)) == [225]
    assert first_row(page(**four, INK_SET=[1])) == [225]
    assert reason_of(page(**four, INK_SET=[2])) == "unsupported"


def test_old_style_jpeg_in_pieces_is_unsupported() -> None:
    assert reason_of(page(COMPRESSION=[6])) == "unsupported"
    assert reason_of(page(COMPRESSION=[6], STRIP_OFFSETS=[8, 12])) == "unsupported"


@pytest.mark.parametrize("compression", [99, 32809, 34712, 50001])
def test_compressions_that_are_not_built_in_are_unsupported(compression: int) -> None:
    assert reason_of(page(COMPRESSION=[compression])) == "unsupported"


# Damage and hostile files


@pytest.mark.parametrize("tags", [{"WIDTH": None}, {"HEIGHT": [0]}, {"STRIP_OFFSETS": None}])
def test_a_page_without_size_or_strips_is_corrupt(tags: dict[str, Any]) -> None:
    assert reason_of(page(**tags)) == "corrupt"


def test_strips_behind_the_end_are_truncated() -> None:
    assert reason_of(page(STRIP_OFFSETS=[60_000])) == "truncated"
    assert reason_of(page(STRIP_OFFSETS=[1 << 31])) == "truncated"
    assert reason_of(page(COMPRESSION=[8], STRIP_COUNTS=[60_000])) == "truncated"
    assert reason_of(page(BITS=[1 << 31], SAMPLES=[1 << 31], WIDTH=[1 << 20])) == "truncated"


def test_a_huge_tile_is_not_allocated() -> None:
    huge = {"TILE_WIDTH": [1 << 20], "TILE_HEIGHT": [1 << 20], "TILE_COUNTS": [8]}
    data = page(STRIP_OFFSETS=None, STRIP_COUNTS=None, TILE_OFFSETS=[8], **huge)
    assert reason_of(data) == "too-many-pixels"


def test_values_that_fill_the_file_are_not_copied_for_every_tag() -> None:
    # 4,000 entries of one tag, each of which spans 8 MB: 32 GB if they were copied.
    filling = bytes(8 << 20)
    entry = struct.pack("<HHII", Tag.STRIP_OFFSETS, 1, len(filling), 8)
    data = b"II*\0" + struct.pack("<I", 8 + len(filling)) + filling
    data += struct.pack("<H", 4000) + entry * 4000 + bytes(4)
    assert reason_of(data) == "corrupt"
    too_many = data[: 8 + len(filling)] + struct.pack("<H", 5000) + entry * 5000 + bytes(4)
    assert reason_of(too_many) == "corrupt"


def test_a_tag_of_megabytes_does_not_reach_a_decoder() -> None:
    tables = zlib.compress(b"") * (1 << 18)
    for tag, compression in ((Tag.YCBCR_COEFFICIENTS, 8), (Tag.JPEG_TABLES, 7)):
        data = bytearray(page(COMPRESSION=[compression], **{tag.name: [1, 2, 3]}))
        at = data.index(struct.pack("<HHI", tag, 3, 3))
        data[at : at + 12] = struct.pack("<HHII", tag, 7, len(tables), len(data))
        assert reason_of(bytes(data) + tables) == "corrupt"


def test_a_written_directory_reads_as_it_was() -> None:
    for byteorder in "<>":
        for bigtiff in (False, True):
            data = tiff((PIXELS, {"rowsperstrip": 3}), byteorder=byteorder, bigtiff=bigtiff)
            reader = TiffReader(data)
            directory, following = reader.read(reader.first)
            assert following == 0
            written = TiffReader(reader.with_only(directory))
            again, following = written.read(written.first)
            assert following == 0
            assert again.keys() == directory.keys()
            for tag, field in directory.items():
                np.testing.assert_array_equal(again[tag].integers(), field.integers())
