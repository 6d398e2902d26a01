"""An allow-list of Pillow's plugins, called without Pillow's global state."""

from __future__ import annotations

import io

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from featureid.images.failures import check_memory, check_pixels, decoder_errors, failure, truncated


class _TiffImageFile(TiffImagePlugin.TiffImageFile):
    """Pillow's TIFF plugin without its own check of the size, see below."""

    def load_prepare(self) -> None:
        ImageFile.ImageFile.load_prepare(self)


# Enough of a WebP file for Pillow to recognize it, and not enough to find its size.
_WEBP_MAGIC = 16

# The plugins are called directly: Image.open would try others, check the size against a global
# that users change, and warn.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "AVIF": AvifImagePlugin.AvifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "TIFF": _TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
}


# Of memory that the decoder takes, as measured.
_AVIF_PIXEL_BYTES = 12


class _Source(io.BytesIO):
    """A file that records whether a decoder wanted more than there was.

    With ImageFile.LOAD_TRUNCATED_IMAGES, which other code may set, Pillow accepts that.
    """

    exhausted = False

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.exhausted = self.exhausted or (not found and size != 0)
        return found


class _WebPSource(_Source):
    """A WebP file whose first read may be short, as files allow.

    Pillow 13 so finds no size there, which it would check against its global.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        at_start = self.tell() == 0 and size is not None and size > _WEBP_MAGIC
        return super().read(_WEBP_MAGIC if at_start else size)


def load_image(data: bytes, kind: str, max_pixels: int) -> Image.Image:
    """Return the image of a file, loaded by Pillow's plugin for the format.

    Args:
        data: the file.
        kind: a format of Pillow's in the notation of `image_format`.
        max_pixels: the limit for the pixels of the image.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels``, ``unsupported`` or
            ``no-memory``.
        MemoryError: there is not as much as the decoder takes.
    """
    if kind == "AVIF" and not AvifImagePlugin.SUPPORTED:
        raise failure("unsupported", "this build of Pillow lacks AVIF: install Pillow's own wheel")
    with decoder_errors(kind):
        source = _WebPSource(data) if kind == "WEBP" else _Source(data)
        image = _PLUGINS[kind](source)
    check_pixels(*image.size, max_pixels)
    if kind == "AVIF":
        check_memory(_AVIF_PIXEL_BYTES * image.width * image.height)
    source.exhausted = False
    with decoder_errors(kind):
        image.load()
    if source.exhausted:
        raise truncated(f"the {kind} image")
    return image
