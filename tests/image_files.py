"""A photo in every format that is decoded, and what tests of decoding share."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import AvifImagePlugin, Image
from skimage import data as photos

from featureid.errors import ImageError
from featureid.images import DecodedImage, decode_image

PHOTO = Image.fromarray(photos.astronaut()).resize((60, 44))
RGB = np.asarray(PHOTO).astype(int)
NO_AVIF = pytest.mark.skipif(not AvifImagePlugin.SUPPORTED, reason="this Pillow has no AVIF")


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    """Return an image file as Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """Return an EXIF block with an orientation and another tag."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F] = "a maker"
    return block.tobytes()


def heic(image: Image.Image, **options: Any) -> bytes:
    """Return a HEIC file; skip the test where pillow-heif is not installed."""
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def raw_png(width: int, height: int, depth: int, color: int, rows: bytes, *chunks: bytes) -> bytes:
    """Return a PNG of filtered rows, with more chunks before them."""
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


def reason_of(data: bytes, **options: Any) -> str:
    """Return the reason for which a file is refused."""
    with pytest.raises(ImageError) as caught:
        decode_image(data, **options)
    assert caught.value.stage == "decode"
    assert len(str(caught.value)) > 20
    return caught.value.reason


def difference(result: DecodedImage, expected: npt.NDArray[Any]) -> float:
    """Return by how many gray levels the pixels differ on average."""
    assert result.pixels.shape == expected.shape
    return float(abs(result.pixels.astype(int) - expected).mean())


def _build_files() -> dict[str, bytes]:
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


#: Names and files; a name begins with the format.
FILES = _build_files()
