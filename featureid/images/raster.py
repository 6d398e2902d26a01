"""Every format but JPEG, decoded by an allow-list of Pillow's plugins and pillow-heif."""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featureid.images.containers import check_boxes, check_webp, essential_png, first_gif_frame
from featureid.images.exif import exif_orientation
from featureid.images.failures import check_pixels, decoder_errors, failure, truncated
from featureid.images.rgb import scaled_transparency, to_rgb
from featureid.images.tiff import first_tiff_page


class _TiffImageFile(TiffImagePlugin.TiffImageFile):
    """Pillow's TIFF plugin without its own check of the size, see below."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


# The plugins are called directly: Image.open would try others, check the size against a global
# that users change, and warn.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "TIFF": _TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}
# An item of the type Exif in the item table of a HEIF file (ISO/IEC 14496-12, 8.11.6).
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03]\x00\x00[\x00\x01].{4,6})Exif", re.DOTALL)


def decode_raster(data: bytes, kind: str, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Decode the first picture of a file.

    Args:
        data: the file.
        kind: a format `image_format` names, other than ``JPEG``.
        max_pixels: the limit on the picture's pixels.

    Returns:
        The pixels as stored, uint8 (h, w, 3) RGB, and the EXIF orientation still to be applied.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    if kind == "PNG":
        return _decode_png(data, max_pixels)
    if kind == "TIFF":
        page = first_tiff_page(data)
        image = _load(page.data, kind, max_pixels)
        pixels = to_rgb(image, kind, bits=page.bits, white_is_zero=page.white_is_zero)
        return pixels, page.orientation
    if kind in ("AVIF", "HEIC"):
        check_boxes(data, kind)
    if kind == "HEIC":
        return _decode_heic(data, max_pixels), 1
    if kind == "GIF":
        data = first_gif_frame(data, max_pixels)
    elif kind == "WEBP":
        check_webp(data, max_pixels)
    elif kind == "AVIF":
        data = _without_exif(data)
    image = _load(data, kind, max_pixels)
    return to_rgb(image, kind), exif_orientation(image.info.get("exif", b""))


class _Source(io.BytesIO):
    """A file that remembers whether a decoder wanted more than there was.

    With ImageFile.LOAD_TRUNCATED_IMAGES, which other code may set, Pillow is content with that.
    """

    exhausted = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.exhausted = self.exhausted or (not found and size != 0)
        return found


def _load(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    if kind == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise failure("unsupported", "this build of Pillow lacks AVIF: install Pillow's own wheel")
    with decoder_errors(kind):
        source = _Source(data)
        image = _PLUGINS[kind](source)
    check_pixels(*image.size, max_pixels)
    source.exhausted = False
    with decoder_errors(kind):
        image.load()
    if source.exhausted:
        raise truncated(f"the {kind} picture")
    return image


def _decode_png(data: bytes, max_pixels: int) -> tuple[npt.NDArray[np.uint8], int]:
    data, exif, bits = essential_png(data)
    image = _load(data, "PNG", max_pixels)
    if "transparency" in image.info:
        key = image.info["transparency"]
        image.info["transparency"] = scaled_transparency(image.mode, key, bits)
    return to_rgb(image, "PNG"), exif_orientation(exif)


def _without_exif(data: bytes) -> bytes:
    """Hide the EXIF block of an AVIF file from Pillow, to which a damaged one is fatal.

    In HEIF the orientation is a property of the picture, which Pillow reports as EXIF.
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
    with decoder_errors("HEIC"):
        # Orientation is a property of the picture, already applied by libheif.
        image = heif.to_pillow()
    return to_rgb(image, "HEIC")
