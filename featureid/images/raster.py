"""All formats but JPEG, decoded by an allow-list of Pillow's plugins and pillow-heif."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
from PIL import Image

from featureid.errors import ImageError
from featureid.images.bmp import decodable_bmp
from featureid.images.exif import exif_orientation
from featureid.images.failures import (
    check_memory,
    check_pixels,
    corrupt,
    decoder_errors,
    failure,
    truncated,
)
from featureid.images.gif import first_gif_frame
from featureid.images.heif import check_boxes, check_coded_images
from featureid.images.netpbm import decode_netpbm
from featureid.images.plugins import load_image
from featureid.images.png import essential_png, has_all_rows
from featureid.images.rgb import on_white, rows_of, scaled_transparency, to_rgb
from featureid.images.tiff import decode_tiff
from featureid.images.webp import check_webp, shortened_webp

# An item of the type Exif in the item table of a HEIF file (ISO/IEC 14496-12, 8.11.6).
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03]\x00\x00[\x00\x01].{4,6})Exif", re.DOTALL)

# Of memory that libheif and its threads take, as measured; without, the C library ends the process.
_HEIC_BYTES, _HEIC_PIXEL_BYTES = 64 << 20, 12


def decode_raster(data: bytes, kind: str, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode the first image of a file.

    Args:
        data: the file.
        kind: a format `image_format` names, other than ``JPEG``.
        max_pixels: the limit for the image's pixels.

    Returns:
        The pixels as stored, uint8 (h, w, 3) RGB, and the EXIF orientation still to be applied.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    if kind == "PNG":
        return _decode_png(data, max_pixels)
    if kind == "TIFF":
        return decode_tiff(data, max_pixels)
    if kind in ("AVIF", "HEIC"):
        check_boxes(data, kind)
        check_coded_images(data, kind)
    if kind == "HEIC":
        return _decode_heic(data, max_pixels), 1
    if kind == "PPM":
        return decode_netpbm(data, max_pixels), 1
    if kind == "GIF":
        return _decode_gif(data, max_pixels), 1
    if kind == "BMP":
        data = decodable_bmp(data, max_pixels)
    elif kind == "WEBP":
        return _decode_webp(data, max_pixels)
    elif kind == "AVIF":
        data = _without_exif(data)
    image = load_image(data, kind, max_pixels)
    return to_rgb(image, kind), exif_orientation(image.info.get("exif", b""))


def _decode_png(data: bytes, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    png = essential_png(data, max_pixels)
    image = load_image(png.data, "PNG", max_pixels)
    # A row that is not all zero was in the file, and those before it as well.
    certain = not png.interlaced and not _is_empty(image, image.height - 1)
    if not certain and not has_all_rows(png.data, max_pixels):
        raise truncated("the PNG image")
    if "transparency" in image.info:
        key = image.info["transparency"]
        image.info["transparency"] = scaled_transparency(image.mode, key, png.bits)
    return to_rgb(image, "PNG"), exif_orientation(png.exif)


def _is_empty(image: Image.Image, row: int) -> bool:
    """Return whether all samples of a row are zero."""
    extrema = rows_of(image, row, row + 1).getextrema()
    bands = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(band == (0, 0) for band in bands)


def _decode_webp(data: bytes, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    check_webp(data, max_pixels)
    image = load_image(data, "WEBP", max_pixels)
    shortened = shortened_webp(data)
    if shortened is not None and _decodes(shortened, max_pixels):
        raise corrupt("WebP", "a hole of zeros in the image")
    return to_rgb(image, "WEBP"), exif_orientation(image.info.get("exif", b""))


def _decodes(data: bytes, max_pixels: int) -> bool:
    try:
        load_image(data, "WEBP", max_pixels)
    except ImageError:
        return False
    return True


def _decode_gif(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    frame = first_gif_frame(data, max_pixels)
    image = load_image(frame.data, "GIF", max_pixels)
    # Browsers show the background through a canvas that the first frame does not fill.
    return on_white(to_rgb(image, "GIF"), frame.left, frame.top, frame.canvas)


def _without_exif(data: bytes) -> bytes:
    """Hide the EXIF block of an AVIF file from Pillow, to which a damaged one is fatal.

    In HEIF the orientation is a property of the image, which Pillow reports as EXIF.
    """
    return _EXIF_ITEM.sub(rb"\1none", data, count=1)


def _decode_heic(data: bytes, max_pixels: int) -> npt.NDArray[np.uint8]:
    try:
        import pillow_heif
    except ImportError as error:
        raise failure(
            "unsupported", "HEIC needs pillow-heif: pip install 'featureid[heif]'"
        ) from error
    with decoder_errors("HEIC"):
        heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=True)
        width, height = heif.size
    check_pixels(width, height, max_pixels)
    check_memory(_HEIC_BYTES + _HEIC_PIXEL_BYTES * width * height)
    with decoder_errors("HEIC"):
        # Orientation is a property of the image, already applied by libheif.
        image = heif.to_pillow()
    return to_rgb(image, "HEIC")
