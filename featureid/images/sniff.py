"""The format of an image file, detected from its first bytes and never from its name."""

from __future__ import annotations

import re

from featureid.images.failures import failure

# A plain-text format: a magic of two letters alone would take any text for an image.
_NETPBM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+\d")
_LONGEST_PREAMBLE = 8192
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Images that are not decoded, by how they begin (patterns in which . is any byte).
_UNDECODED_IMAGES = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\x0a|\x00\x00\x00\x0cJXL ", "JPEG XL"),
        (rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  ", "JPEG 2000"),
        (rb"II\xbc", "JPEG XR"),
        (rb"8BP[SB]\x00[\x01\x02]", "Photoshop (PSD)"),
        (rb"IIU\x00|IIR[OS]\x08\x00|MMOR\x00", "camera raw (Panasonic or Olympus)"),
        (rb"II\x1a\x00\x00\x00HEAPCCDR|.{4}ftypcrx ", "camera raw (Canon)"),
        (rb"FUJIFILMCCD-RAW|\x00MRM|FOVb", "camera raw (Fujifilm, Minolta or Sigma)"),
        (rb".{4}ftyp(?:mif1|msf1|avci|vvic|jpeg|j2ki)", "another kind of HEIF"),
        (rb"P7\n(?:#|WIDTH|HEIGHT)", "Netpbm PAM"),
        (rb"P[Ff]\s+\d+\s+\d+\s", "portable float map (PFM)"),
        (rb"\x76\x2f\x31\x01|#\?(?:RADIANCE|RGBE)\n", "OpenEXR or Radiance HDR"),
        (rb"\x00\x00[\x01\x02]\x00[\x01-\xff]\x00|icns\x00", "icon"),
        (
            rb"DDS \x7c|qoif\x00|\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]",
            "DDS, QOI or SGI image",
        ),
        (rb"gimp xcf |AT&TFORM", "GIMP (XCF) or DjVu"),
        (rb"\n[\x00\x02-\x05]\x01[\x01\x02\x04\x08]|\x59\xa6\x6a\x95", "PCX or Sun raster image"),
        (rb"/\* XPM \*/|#define \w+_width \d", "X bitmap or pixmap"),
        (rb"SIMPLE  =", "FITS"),
        # Targa has no magic number: an ID, a color map or none, a known type, place, size, bits.
        (
            rb".(?:\x00[\x02\x03\x0a\x0b]\x00{5}|\x01[\x01\x09].{4}[\x0f-\x20]).{4}"
            rb"(?!\x00\x00)..(?!\x00\x00)..[\x08\x0f\x10\x18\x20][\x00-\x3f]",
            "Targa (TGA)",
        ),
        (rb"[\x8a\x8b][MJ]NG\r\n\x1a\n", "MNG or JNG"),
        (rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF", "Windows metafile"),
        # As on the Windows clipboard: size, width, height, 1 plane, a known number of bits.
        (
            rb"[\x28\x6c\x7c]\x00\x00\x00..\x00\x00..(?:\x00\x00|\xff\xff)"
            rb"\x01\x00[\x01\x04\x08\x10\x18\x20]\x00",
            "a bitmap (DIB) without the header of a BMP file",
        ),
        # Saved by a script that printed a newline, or saved the header of a response, too.
        (
            rb"(?:HTTP/\d[^\xff]{1,4000}\n\r?\n|\s{1,16})(?:\xff\xd8\xff|\x89PNG\r|GIF8|RIFF)",
            "an image behind other bytes",
        ),
        (rb"(?:\xef\xbb\xbf)?\s*(?:<[?!][^<]{0,2000}){0,8}<(?:svg:)?svg\b", "SVG"),
    )
)
_BINARY = re.compile(rb"[^\t-\r -~]")
_OTHERS = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript document"),
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
        ImageError: ``empty``, ``truncated`` (a known magic number and nothing else),
            ``unsupported`` (an image of another format), or ``not-an-image``.
    """
    if not data:
        raise failure("empty", "the file has 0 bytes: copy it again from its source")
    name = _by_magic(data)
    if name is not None:
        return name
    if len(data) < 18 and _begins_like_an_image(data):
        raise failure("truncated", f"only {len(data)} bytes of an image: copy the file again")
    for pattern, name in _UNDECODED_IMAGES:
        if pattern.match(data[:_LONGEST_PREAMBLE]):
            raise failure("unsupported", f"{name} is not decoded: save the image as JPEG or PNG")
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
    # Their bytes are not quoted: messages are stored and printed, and files may hold secrets.
    head = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"<"):
        return "XML or HTML"
    return "text" if head.isascii() and not _BINARY.search(head) else "an unknown format"
