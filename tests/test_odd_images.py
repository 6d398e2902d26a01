"""Files that decoders get wrong: decoded as a good viewer shows them, or refused as unsupported."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import AvifImagePlugin, Image

from featureid.errors import ImageError
from featureid.images import DecodeLimits, decode_image
from tests.image_files import difference, reason_of

FOLDER = Path(__file__).parent / "odd_images"
#: Gray levels on average; lossy files differ by up to 4.
MAX_DIFFERENCE = 6.0

#: Kind to files to the image that each shows, by its name in ``expected/``.
SHOWN = {
    "CMYK JPEG without Adobe marker": {"j_cmyk_noadobe_plain.jpg": "color"},
    "JPEG whose Adobe marker names a color transform": {
        "j_adobe0_rgb.jpg": "color",
        "j_adobe2_3ch.jpg": "color",
        "j_rgb_ids.jpg": "color",
    },
    "JPEG with padding before restart markers": {
        "j_rstpad_1zero.jpg": "color",
        "j_rstpad_4zero.jpg": "color",
        "j_rstpad_6same.jpg": "color",
        "j_rstpad_9zero.jpg": "color",
    },
    "JPEG with odd bytes between or behind segments": {
        "j_app_gap.jpg": "color",
        "j_bad_com.jpg": "color",
        "j_two_soi.jpg": "color",
        "j_trailing_mp4.jpg": "color",
    },
    "JPEG with an odd EXIF header": {
        "j_exif_pad.jpg": "color",
        "j_exif_nozero.jpg": "color",
    },
    "PNG without its last chunk": {"p_noIEND.png": "color", "p_halfIEND.png": "color"},
    "PNG with an empty chunk, or EXIF with a JPEG's prefix": {
        "p_emptyIDAT.png": "color",
        "p_exif6_prefixed.png": "color",
    },
    "HEIC with bytes behind its boxes": {
        "h_trailing.heic": "color",
        "h_trailing_sef.heic": "color",
    },
    "HEIC turned by its properties and by EXIF": {"h_exif6_irot.heic": "color"},
    "AVIF with bytes behind its boxes": {
        "a_trailing.avif": "color",
        "a_trailing_zeros.avif": "color",
    },
    "WebP with bytes behind it": {"w_trailing.webp": "color"},
    "BMP compressed by run lengths": {
        "b_rle4.bmp": "rle",
        "b_rle8.bmp": "rle",
        "b_rle8_2colors.bmp": "rle_two_colors",
    },
    "BMP of 16 bits, or with an empty fourth byte": {
        "b_555.bmp": "color",
        "b_32zero.bmp": "color",
    },
    "GIF whose first frame does not fill its canvas": {
        "g_small_first.gif": "small_frame",
        "g_small_first_bg3.gif": "small_frame",
        "g_small_first_local.gif": "small_frame",
        "g_outside.gif": "outside",
    },
    "Netpbm without a last newline": {"n_p1_nonl.pbm": "bilevel"},
    "TIFF whose first page is a thumbnail": {"t_thumb_first.tif": "color"},
    "TIFF with old-style JPEG compression": {
        "r_cr2like_420.cr2": "large",
        "t_ojpeg_22.tif": "color",
        "t_ojpeg_jif_22.tif": "color",
    },
    "TIFF with a color map of 8 or 16 bits": {
        "t_pal8scale.tif": "palette",
        "t_pal256scale.tif": "palette",
    },
    "TIFF with planes": {
        "t_planar16_deflate.tif": "color",
        "t_planar16_lzw.tif": "color",
        "t_rgba8_planar.tif": "color",
        "t_cmyk8_planar.tif": "color",
    },
    "TIFF with two samples per pixel": {
        "t_gray_extra0.tif": "gray",
        "t_graya_assoc.tif": "gray",
        "t_graya_lzw.tif": "gray",
    },
    "TIFF with a missing or odd tag": {
        "t_no_photometric.tif": "color",
        "t_no_counts.tif": "color",
        "t_rows_0.tif": "color",
    },
    "TIFF in which 0 is white": {"t_bilevel_w.tif": "bilevel", "t_miniswhite8.tif": "gray"},
    "TIFF with fax compression": {"t_bw_group3.tif": "bilevel", "t_bw_group4.tif": "bilevel"},
    "TIFF with LZMA compression": {"t_c_lzma.tif": "color"},
    "TIFF with tiles of 16-bit gray": {"t_tiled_gray16.tif": "gray"},
    "big-endian BigTIFF": {"t_bigtiff_be.tif": "color"},
}

#: Kind to files that must be refused as unsupported: they are intact.
UNSUPPORTED = {
    "JPEG with unusual chroma subsampling": [
        "j_samp_1x3.jpg",
        "j_samp_mixed.jpg",
        "j_cmyk_illustrator.jpg",
    ],
    "JPEG without a height in its header": ["j_dnl.jpg"],
    "JPEG behind other bytes": ["j_leading_http.jpg", "j_leading_nl.jpg"],
    "BMP without its file header": ["b_dib.dib"],
    "BMP that holds a JPEG": ["b_jpeg_in_bmp.bmp"],
    "PAM": ["n_p7.pam"],
    "TIFF with compression that Pillow lacks": [
        "t_c_jpeg2000.tif",
        "t_c_jpegxl.tif",
        "t_c_png.tif",
        "t_c_webp.tif",
    ],
    "TIFF with JPEG tables apart": ["t_ojpeg_tables_11.tif"],
    "TIFF with uncompressed YCbCr": ["t_ycbcr_11_planar.tif", "t_ycbcr_22.tif"],
    "TIFF with signed samples": ["t_i8.tif", "t_i16.tif"],
    "TIFF with samples of unknown range": ["t_f16.tif", "t_f32_255.tif", "t_u32.tif"],
    "TIFF with planes that may be slices": ["t_planar16_default.tif"],
}

#: File to the reason for which it is refused: these are damaged.
DAMAGED = {"j_cut5.jpg": "truncated", "w_size0.webp": "corrupt", "w_size_plus1.webp": "truncated"}

_SHOWN_FILES = [
    pytest.param(file, image, id=f"{kind}: {file}")
    for kind, files in SHOWN.items()
    for file, image in files.items()
]
_UNSUPPORTED_FILES = [
    pytest.param(file, id=f"{kind}: {file}")
    for kind, files in UNSUPPORTED.items()
    for file in files
]


def read(file: str) -> bytes:
    """Return one of the files."""
    return (FOLDER / "files" / file).read_bytes()


@pytest.mark.parametrize(("file", "image"), _SHOWN_FILES)
def test_an_odd_file_shows_what_a_viewer_shows(file: str, image: str) -> None:
    if file.endswith(".heic"):
        pytest.importorskip("pillow_heif")
    if file.endswith(".avif") and not AvifImagePlugin.SUPPORTED:
        pytest.skip("this Pillow has no AVIF")
    expected = np.asarray(Image.open(FOLDER / "expected" / f"{image}.png"))
    assert difference(decode_image(read(file)), expected) < MAX_DIFFERENCE


@pytest.mark.parametrize("file", _UNSUPPORTED_FILES)
def test_an_intact_file_that_is_not_decoded_is_unsupported(file: str) -> None:
    assert reason_of(read(file)) == "unsupported"


@pytest.mark.parametrize("file", DAMAGED)
def test_a_damaged_file_is_refused(file: str) -> None:
    assert reason_of(read(file)) == DAMAGED[file]


@pytest.mark.parametrize("file", sorted(path.name for path in (FOLDER / "files").iterdir()))
def test_damage_of_an_odd_file_never_escapes(file: str, capfd: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(file)
    for _ in range(30):
        data = bytearray(read(file))
        middle = chance.choice((0, len(data) // 2, len(data)))
        for _ in range(chance.choice((1, 1, 4))):
            at = min(len(data) - 1, max(0, middle + chance.randrange(-300, 300)))
            data[at] ^= 1 << chance.randrange(8)
        try:
            pixels = decode_image(bytes(data), limits=DecodeLimits(max_pixels=1 << 20)).pixels
        except ImageError as error:
            assert error.stage == "decode"
        else:
            assert pixels.dtype == np.uint8 and pixels.ndim == 3
    capfd.readouterr()  # libtiff writes its errors to the standard error stream


def test_every_committed_file_is_tested() -> None:
    tested = {file for files in SHOWN.values() for file in files} | set(DAMAGED)
    tested |= {file for files in UNSUPPORTED.values() for file in files}
    assert {path.name for path in (FOLDER / "files").iterdir()} == tested
