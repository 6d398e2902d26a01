"""What a file is, told by its first bytes and never by its name."""

from __future__ import annotations

import re

from featureid.images.failures import failure

# A plain-text format: a magic of two letters alone would take any text for an image.
_NETPBM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+\d")
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"8BPS", "a Photoshop document"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 image"),
    (b"PK\x03\x04", "a ZIP archive or office document"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (b"RIFF", "a RIFF file such as AVI or WAV"),
)


def image_format(data: bytes) -> str:
    """Return the format of `data`.

    Returns:
        One of ``JPEG``, ``PNG``, ``WEBP``, ``GIF``, ``BMP``, ``TIFF``, ``PPM``, ``AVIF``, ``HEIC``.

    Raises:
        ImageError: ``empty``, ``truncated`` (a known magic number and nothing else), or
            ``not-an-image``.
    """
    if not data:
        raise failure("empty", "the file has 0 bytes: copy it again from its source")
    name = _by_magic(data)
    if name is not None:
        return name
    if len(data) < 18 and _begins_like_an_image(data):
        raise failure("truncated", f"only {len(data)} bytes of an image: copy the file again")
    raise failure(
        "not-an-image", f"looks like {_looks_like(data)}: give JPEG, PNG, WebP, GIF, BMP or TIFF"
    )


def _by_magic(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if (
        data.startswith(b"BM")
        and len(data) >= 18
        and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES
    ):
        return "BMP"
    if data[4:8] == b"ftyp":
        return _by_brand(data)
    return "PPM" if _NETPBM.match(data[:4096]) else None


def _by_brand(data: bytes) -> str | None:
    """Return the format of an ISO base media file by its brands (ISO/IEC 14496-12, 4.3)."""
    size = min(int.from_bytes(data[:4], "big"), len(data), 256)
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def _begins_like_an_image(data: bytes) -> bool:
    magics = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"GIF87a", b"II*\0", b"MM\0*")
    return data.startswith((b"RIFF", b"BM")) or any(magic.startswith(data) for magic in magics)


def _looks_like(data: bytes) -> str:
    for magic, name in _OTHERS:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a video or another ISO media file"
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return f"XML, SVG or HTML beginning {head[:24]!r}"
    if head.isascii() and not re.search(rb"[^\t-\r -~]", head):
        return f"text beginning {head[:24]!r}"
    return f"no known image, beginning {data[:12]!r}"
