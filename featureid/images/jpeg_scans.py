"""The scans of a JPEG file that has several (ITU-T T.81, annexes B and G)."""

from __future__ import annotations

import re

from featureid.images.failures import corrupt, truncated, unsupported

_SOS = 0xDA
_END = b"\xff\xd9"
# What ends the compressed data of a scan: no stuffed byte, fill byte or restart marker.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# Encoders write some 10.  500 is the limit of libjpeg-turbo's own fuzzers; each of the largest
# images may have 20, since a scan costs 8 ns per pixel though it has but a few bytes.
_MAX_SCANS = 500
_MAX_SCANNED_PIXELS = 20 << 26
_MAX_SEGMENTS = 4 * _MAX_SCANS
_COEFFICIENTS = 64


def check_scans(data: bytes, position: int, components: int, pixels: int) -> None:
    """Check that a file has all of its scans, and not too many.

    Decoders show a progressive file without its last scans blurred, and without a component gray.

    Args:
        data: the file.
        position: where its first scan begins.
        components: number of color components of the image.
        pixels: of the image.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``unsupported``.
    """
    scans = _scans(data, position, min(_MAX_SCANS, _MAX_SCANNED_PIXELS // pixels))
    missing: dict[int, bytearray] = {}
    for scan in scans:
        count = scan[0]
        first, last, precision = scan[1 + 2 * count : 4 + 2 * count]
        for component in scan[1 : 1 + 2 * count : 2]:
            bits = missing.setdefault(component, bytearray(b"\xff" * _COEFFICIENTS))
            bits[first : last + 1] = bytes([precision & 15]) * (last + 1 - first)
    if len(missing) < components or any(map(any, missing.values())):
        raise truncated("the JPEG scans")


def _scans(data: bytes, position: int, most: int) -> list[bytes]:
    """Return the headers of the scans, without marker and length."""
    scans = []
    for _ in range(_MAX_SEGMENTS):
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        if data[position + 1] == _SOS:
            scan = data[position + 4 : position + 2 + size]
            if not scan or len(scan) < 4 + 2 * scan[0] or scan[2 + 2 * scan[0]] >= _COEFFICIENTS:
                raise corrupt("JPEG", "the header of a scan")
            scans.append(scan)
        if len(scans) > most:
            raise unsupported("JPEG", f"more than {most} scans of this size")
        following = _MARKER.search(data, position + 2 + size)
        if following is None or following[0] == _END:
            return scans
        position = following.start()
    raise unsupported("JPEG", f"more than {_MAX_SEGMENTS:,} segments between scans")
