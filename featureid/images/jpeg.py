"""JPEG, decoded by libjpeg-turbo through simplejpeg."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from featureid.images.exif import exif_orientation
from featureid.images.failures import (
    check_pixels,
    classified,
    corrupt,
    decoder_errors,
    failure,
    truncated,
    unsupported,
)
from featureid.images.jpeg_scans import check_scans

# Why simplejpeg and not Pillow: Pillow drops libjpeg's warnings, so a photo with damaged scan data
# is decoded to a garbled image silently.  Of 1,080 single-bit flips in the scans of real photos 156
# changed the image by more than 8 levels on average; Pillow reported 8 of them, this module 109
# (the others resynchronize and leave no trace in the format).  simplejpeg is also faster: 1.1 ms
# against 4.4 for 640x480, 34 ms against 143 for 4000x3000, and 14 ms at scale 1/4 (one core).  Its
# strict mode also refuses harmless faults; `_repaired` removes those.

# The decoded image stays at least this many times the model's input in both directions.  Mean
# absolute difference from resizing the full image, at 150 to 224 pixels: 0.27 levels for 2 (maximum
# of a pixel: 6), 0.8 for 1 (maximum 36).  Cost at 12 megapixels: 14.4 ms instead of 12.5.
_OVERSAMPLING = 2
# Only powers of two have SIMD code: 3/8 takes longer than 1/2.
_SCALES = (8, 4, 2)

_BASELINE, _EXTENDED, _PROGRESSIVE, _JPEG_LS = 0xC0, 0xC1, 0xC2, 0xF7
_FRAMES = frozenset({*range(0xC0, 0xD0), _JPEG_LS}) - {0xC4, 0xC8, 0xCC}
_SOS, _EOI, _APP1, _APP14 = 0xDA, 0xD9, 0xE1, 0xEE
_DECODING_SEGMENTS = frozenset({*_FRAMES, 0xC4, 0xDB, 0xDD, _SOS, _APP14, 0xE0})
# Profiles and notes of the largest files take some hundreds, of 64 KB each.
_MAX_SEGMENTS = 1 << 14
# Fill bytes, markers without a segment and bytes between segments are skipped.
_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_EXTRANEOUS = re.compile(r"(\d+) extraneous bytes before marker (0xd\d)")
_END_MARKER = "0xd9"
# TurboJPEG decodes common sampling factors only. Pillow decodes all, but reports no damage.
_UNNAMED_SAMPLING = "Could not determine subsampling level"
# Pixels that are converted from CMYK at a time.
_PART = 1 << 20
# Up to this many bytes left before the end marker are padding; damage left 5 or more in each of
# 127 cases.
_MAX_PADDING = 4
# As many equal bytes at the end of the data that libjpeg did need are not of an image.
_HOLE = 16
_RESTART_MARKER = re.compile(rb"(\xff[\xd0-\xd7])")
_ZEROS_BEFORE_RESTART = re.compile(rb"(?<!\0)\0++(?=\xff[\xd0-\xd7])")
# With fewer restart markers, damage in one interval could pass for padding.
_MIN_RESTARTS = 3
_MAX_RESTART_PADDING = 16


@dataclass(frozen=True)
class JpegHeader:
    """What the segments before the first scan say of an image.

    Attributes:
        width: columns as stored.
        height: rows as stored.
        components: 1 (gray), 3 or 4 (CMYK).
        frame: the marker of the frame, which tells the kind of coding.
        precision: bits per sample.
        adobe: whether a segment of Adobe's is among them.
        orientation: by EXIF, 1 to 8.
        single_scan: whether the first scan has all pixels.
        scan_start: where the compressed data of the first scan begins.
        segments: those that decoding needs, the last of which is the header of the scan.
    """

    width: int
    height: int
    components: int
    frame: int
    precision: int
    adobe: bool
    orientation: int
    single_scan: bool
    scan_start: int
    segments: tuple[bytes, ...]


def decode_jpeg(
    data: bytes, min_size: tuple[int, int] | None, max_pixels: int, damaged: bool = False
) -> tuple[npt.NDArray[np.uint8], int, tuple[int, int]]:
    """Decode the first image of a JPEG or MPO file.

    Args:
        data: the file.
        min_size: (height, width) the upright result must not fall below, or None for full size.
        max_pixels: the limit for the pixels really held in memory.
        damaged: decode what can be decoded; libjpeg fills the rest.

    Returns:
        The pixels as stored, uint8 (h, w, 3) RGB; the EXIF orientation; and the full (width,
        height) as stored.

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    header = read_header(data)
    height, width = _decoded_size(header, min_size)
    decode = _decode_damaged if damaged else decode_samples
    pixels = decode(data, header, height, width, max_pixels)
    if header.components == 4:
        pixels = _cmyk_to_rgb(pixels, header.adobe)
    return pixels, header.orientation, (header.width, header.height)


def _decoded_size(header: JpegHeader, min_size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the (height, width) of the smallest fast scale that is large enough."""
    height, width = header.height, header.width
    if min_size is None:
        return height, width
    rows, columns = min_size if header.orientation < 5 else min_size[::-1]
    rows, columns = min(height, _OVERSAMPLING * rows), min(width, _OVERSAMPLING * columns)
    for scale in _SCALES:
        scaled = -(-height // scale), -(-width // scale)
        if scaled[0] >= rows and scaled[1] >= columns:
            return scaled
    return height, width


def decode_samples(
    data: bytes, header: JpegHeader, height: int, width: int, max_pixels: int
) -> npt.NDArray[np.uint8]:
    """Decode a JPEG file to RGB, or to four components as they are stored.

    Args:
        data: the file.
        header: what `read_header` returned for it.
        height: rows of the scale to decode at.
        width: columns of that scale.
        max_pixels: the limit for the pixels really held in memory.

    Returns:
        uint8 (height, width, 3 or 4).

    Raises:
        ImageError: ``truncated``, ``corrupt``, ``too-many-pixels`` or ``unsupported``.
    """
    _check_work(data, header, height, width, max_pixels)
    pixels, fault = _decode_once(data, header, height, width)
    if pixels is None:
        data = _repaired(data, header, fault)
        pixels, fault = _decode_once(data, header, height, width)
    if pixels is None and header.single_scan:
        scan_start = 2 + sum(map(len, header.segments))
        for candidate in _without_restart_padding(data, scan_start, fault):
            pixels, _ = _decode_once(candidate, header, height, width)
            if pixels is not None:
                break
    if pixels is None and _UNNAMED_SAMPLING in fault:
        raise unsupported("JPEG", "unusual chroma subsampling")
    if pixels is None:
        raise classified("JPEG", ValueError(fault))
    return pixels


def _decode_damaged(
    data: bytes, header: JpegHeader, height: int, width: int, max_pixels: int
) -> npt.NDArray[np.uint8]:
    """Decode as `decode_samples` does, but whatever libjpeg warns of."""
    _check_work(data, header, height, width, max_pixels)
    pixels, fault = _decode_once(data, header, height, width, strict=False)
    if pixels is None:
        raise classified("JPEG", ValueError(fault))
    return pixels


def _check_work(data: bytes, header: JpegHeader, height: int, width: int, max_pixels: int) -> None:
    """Refuse an image that would take too much memory or time at a scale."""
    if header.single_scan:
        check_pixels(width, height, max_pixels)
        return
    # Several scans: the library holds the coefficients of the whole image at any scale.
    check_pixels(header.width, header.height, max_pixels)
    first_scan = header.scan_start - len(header.segments[-1])
    check_scans(data, first_scan, header.components, header.width * header.height)


def _decode_once(
    data: bytes, header: JpegHeader, height: int, width: int, strict: bool = True
) -> tuple[npt.NDArray[np.uint8] | None, str]:
    """Return the pixels, or None and what libjpeg reported: if strict, be it only a warning."""
    scaled = (height, width) != (header.height, header.width)
    with decoder_errors("JPEG"):
        try:
            pixels = simplejpeg.decode_jpeg(
                data,
                "CMYK" if header.components == 4 else "RGB",
                min_height=height if scaled else 0,
                min_width=width if scaled else 0,
                strict=strict,
            )
        except ValueError as error:
            return None, str(error)
    return pixels, ""


def _cmyk_to_rgb(pixels: npt.NDArray[np.uint8], adobe: bool) -> npt.NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    rgb = np.empty((height, width, 3), np.uint8)
    step = max(1, _PART // width)
    for top in range(0, height, step):
        part = pixels[top : top + step]
        # Adobe's programs store the inverse of ink, and say so by their APP14 segment.
        ink = np.ascontiguousarray(255 - part if adobe else part)
        rgb[top : top + step] = np.asarray(Image.fromarray(ink, "CMYK").convert("RGB"))
    return rgb


def _repaired(data: bytes, header: JpegHeader, fault: str) -> bytes:
    """Return `data` without the harmless faults that libjpeg warns about; damage stays as it is.

    Removed are bytes between the header segments, odd values in segments that do not matter, and
    padding before the end marker; a missing end marker after a complete image is added.
    """
    scan = data[header.scan_start :]
    end = scan.find(b"\xff\xd9") if header.single_scan else scan.rfind(b"\xff\xd9")
    if end >= 0:
        scan = scan[:end]
        found = _EXTRANEOUS.search(fault)
        padding = int(found[1]) if found and found[2] == _END_MARKER else 0
        if 0 < padding < len(scan) and _is_padding(scan, padding):
            scan = scan[:-padding]
    elif not header.single_scan:
        # Later scans may be missing, and the image would be blurred.
        raise truncated("the JPEG scans")
    return b"".join((b"\xff\xd8", *header.segments, scan, b"\xff\xd9"))


def _without_restart_padding(data: bytes, scan_start: int, fault: str) -> Iterator[bytes]:
    """Yield `data` without padding before its restart markers, in the ways that `fault` allows.

    Some cameras align restart intervals with zeros or repeat their last bytes. libjpeg reports
    the padding of one interval, or the sum of several. Damage in one interval does not pass for
    padding: the other intervals would then be cut too short, which libjpeg reports.

    Args:
        data: a file of a single scan, as `_repaired` returns it.
        scan_start: where the compressed data begins.
        fault: what libjpeg reported about it.
    """
    found = _EXTRANEOUS.search(fault)
    head, scan = data[:scan_start], data[scan_start:]
    intervals = _RESTART_MARKER.split(scan)
    if not found or found[2] == _END_MARKER or len(intervals) // 2 < _MIN_RESTARTS:
        return
    yield head + _ZEROS_BEFORE_RESTART.sub(b"", scan)
    total = int(found[1])
    for size in range(1, min(total, _MAX_RESTART_PADDING) + 1):
        if total % size == 0:
            # Every even item but the last is the data of an interval that a marker follows.
            cut = (part if at % 2 else part[:-size] for at, part in enumerate(intervals[:-1]))
            yield b"".join((head, *cut, intervals[-1]))


def _is_padding(scan: bytes, size: int) -> bool:
    """Return whether the last bytes of a scan, which libjpeg did not need, are harmless."""
    last = scan[-1:]
    # Of a hole of an interrupted copy, libjpeg takes a part for the image.
    is_hole = scan[-size - _HOLE : -size] == last * _HOLE
    return size <= _MAX_PADDING or (scan[-size:].count(last) == size and not is_hole)


def read_header(data: bytes) -> JpegHeader:
    """Read the segments up to the first scan (ITU-T T.81, annex B).

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``unsupported``.
    """
    orientation, adobe, frame, segments = 1, False, b"", []
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker, start, end = _next_segment(data, position)
        body = data[start + 4 : end]
        if marker in _DECODING_SEGMENTS:
            segments.append(_known_jfif(data[start:end]))
        if marker in _FRAMES:
            frame = data[start + 1 : end]
        elif marker == _APP14:
            adobe = adobe or body.startswith(b"Adobe")
        elif marker == _APP1 and orientation == 1 and body.startswith(b"Exif\0"):
            orientation = exif_orientation(body)
        elif marker == _SOS:
            break
        position = end
    else:
        raise corrupt("JPEG", f"more than {_MAX_SEGMENTS:,} segments")
    if len(frame) < 9 or not body:
        raise corrupt("JPEG", "no image size before the image")
    height, width = int.from_bytes(frame[4:6], "big"), int.from_bytes(frame[6:8], "big")
    if not width:
        raise corrupt("JPEG", "width 0")
    if not height:
        raise unsupported("JPEG", "a height that is not in its header (DNL marker)")
    header = JpegHeader(
        width=width,
        height=height,
        components=frame[8],
        frame=frame[0],
        precision=frame[3],
        adobe=adobe,
        orientation=orientation,
        single_scan=frame[0] != _PROGRESSIVE and body[0] == frame[8],
        scan_start=end,
        segments=tuple(segments),
    )
    if header.precision != 8 or header.frame not in (_BASELINE, _EXTENDED, _PROGRESSIVE):
        raise unsupported("JPEG", f"{header.precision}-bit, type {header.frame:#x} coding")
    if header.components not in (1, 3, 4):
        raise unsupported("JPEG", f"{header.components} color components")
    return header


def _known_jfif(segment: bytes) -> bytes:
    """Return `segment`, and a JFIF one with the version that every decoder knows."""
    if segment[4:9] != b"JFIF\0":
        return segment
    return segment[:9] + b"\1\1" + segment[11:]


def _next_segment(data: bytes, position: int) -> tuple[int, int, int]:
    """Return marker, start and end of the next segment that has a length."""
    found = _SEGMENT.search(data, position)
    start = found.start() if found else len(data)
    if start + 4 > len(data):
        raise truncated("the JPEG header")
    marker = data[start + 1]
    if marker == _EOI:
        raise failure("corrupt", "a JPEG file without an image: replace it")
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if end < start + 4:
        if marker in _DECODING_SEGMENTS:
            raise corrupt("JPEG", f"segment {marker:#x} with an impossible length")
        end = start + 4  # like libjpeg: some writers leave the length of an empty comment 0
    if end > len(data):
        raise truncated("the JPEG header")
    return marker, start, end
