"""The chunks of WebP files, checked before and after Pillow decodes them."""

from __future__ import annotations

import struct

from featureid.images.failures import check_memory, check_pixels, corrupt, truncated

# Far more than encoders leave unused at the end of an image, and a fraction of a hole.
_SLACK = 16
# Of memory that the decoder takes, as measured.
_PIXEL_BYTES = 22
_FRAME_HEADER = 16
_IMAGES = (b"VP8 ", b"VP8L")
# An animation has metadata and a color profile before its first frame.
_MAX_CHUNKS = 1 << 10


def check_webp(data: bytes, max_pixels: int) -> None:
    """Check that a WebP file is whole and not too large; the decoder allocates when it opens one.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
        MemoryError: there is not as much as the decoder takes.
    """
    if len(data) < 30 or len(data) < 8 + int.from_bytes(data[4:8], "little"):
        raise truncated("the WebP image")
    kind, bits = data[12:16], int.from_bytes(data[20:30], "little")
    if kind == b"VP8X":
        width, height = 1 + (bits >> 32 & 0xFFFFFF), 1 + (bits >> 56 & 0xFFFFFF)
    elif kind == b"VP8L":
        width, height = 1 + (bits >> 8 & 0x3FFF), 1 + (bits >> 22 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = bits >> 48 & 0x3FFF, bits >> 64 & 0x3FFF
    else:
        raise corrupt("WebP", f"first chunk {kind!r}")
    check_pixels(width, height, max_pixels)
    check_memory(_PIXEL_BYTES * width * height)


def shortened_webp(data: bytes) -> bytes | None:
    """Return the first image of a WebP file without its last bytes, if it may have a hole.

    A hole of zeros, as an interrupted copy leaves it, is no error to a decoder, and long runs of
    zeros occur in intact files of flat images. But what follows a hole is no longer in step: the
    decoder then has all its pixels before the end, and does not miss the last bytes.

    Returns:
        A file that cannot be decoded if the image of `data` is intact; None if that has no run of
        zeros.
    """
    name, start, end = _first_image(data)
    image = data[start:end]
    if len(image) < 4 * _SLACK or bytes(_SLACK) not in image:
        return None
    image = image[:-_SLACK]
    chunk = name + struct.pack("<I", len(image)) + image + bytes(len(image) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def _first_image(data: bytes) -> tuple[bytes, int, int]:
    """Return the name of the chunk of the first image, and start and end of its content."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        name, size = data[position : position + 4], data[position + 4 : position + 8]
        start = position + 8
        end = start + int.from_bytes(size, "little")
        if name in _IMAGES:
            return name, start, end
        position = start + _FRAME_HEADER if name == b"ANMF" else end + (end - start) % 2
    return b"", 0, 0
