"""Netpbm images, PBM, PGM and PPM, decoded here: Pillow takes a microsecond for each odd sample."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from featureid.images.failures import check_pixels, corrupt, truncated

_SPACE = rb"(?:\s|#[^\r\n]*[\r\n])++"
_NUMBER = rb"(\d{1,10})"
_BITMAP = re.compile(rb"P([14])" + 2 * (_SPACE + _NUMBER) + rb"(?:#[^\r\n]*)?\s")
_SAMPLED = re.compile(rb"P([2356])" + 3 * (_SPACE + _NUMBER) + rb"(?:#[^\r\n]*)?\s")
_COMMENT = re.compile(rb"#[^\r\n]*")
_NO_NUMBER = re.compile(rb"[^\d\s]")
# No sample has more than five digits, but they may be filled up with zeros.
_LONG_NUMBER = re.compile(rb"\d{11}")
_LAST_SPACE = re.compile(rb"\s(?=\S*\Z)")
# Samples, or bytes of text, that are converted at a time.
_BLOCK = 1 << 20
_BYTE, _WORD = 255, 65535

_Pixels = npt.NDArray[np.uint8]


def decode_netpbm(data: bytes, max_pixels: int) -> _Pixels:
    """Decode the first image of a file.

    Args:
        data: a file that begins with ``P1`` to ``P6``.
        max_pixels: the limit for the pixels of the image.

    Returns:
        uint8 (h, w, 3) RGB. Gray of more than 8 bits keeps its high byte.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``too-many-pixels``.
    """
    header = _BITMAP.match(data) or _SAMPLED.match(data)
    if header is None:
        # Without samples behind it, the last number is not followed by white space.
        cut = re.fullmatch(rb"P[1-6](?:" + _SPACE + rb"\d{0,10}){0,3}(?:#[^\r\n]*)?", data)
        raise truncated("the header of the PPM image") if cut else corrupt("PPM", "the header")
    kind, width, height, *rest = map(int, header.groups())
    largest = rest[0] if rest else 1
    if not width or not height or not 0 < largest <= _WORD:
        raise corrupt("PPM", f"{width} x {height} pixels of 0 to {largest}")
    check_pixels(width, height, max_pixels)
    body = memoryview(data)[header.end() :]
    bands = 3 if kind in (3, 6) else 1
    if kind in (1, 4):
        samples = _bits(bytes(body), width, height, plain=kind == 1)
    elif kind in (2, 3):
        samples = _converted(_numbers(bytes(body)), width * height * bands, largest, bands)
    else:
        samples = _converted(_binary(body, largest), width * height * bands, largest, bands)
    pixels = samples.reshape(height, width, bands)
    return pixels if bands == 3 else pixels.repeat(3, axis=2)


def _bits(body: bytes, width: int, height: int, *, plain: bool) -> _Pixels:
    """Return the gray levels, 0 or 255, of a bitmap in which 1 is black."""
    if plain:
        digits = b"".join(_COMMENT.sub(b"", body).split())[: width * height]
        if len(digits) < width * height:
            raise truncated("the PPM image")
        if digits.strip(b"01"):
            raise corrupt("PPM", "a bit that is not 0 or 1")
        bits = np.frombuffer(digits, np.uint8) & np.uint8(1)
    else:
        row = (width + 7) // 8
        if len(body) < row * height:
            raise truncated("the PPM image")
        packed = np.frombuffer(body, np.uint8, row * height).reshape(height, row)
        bits = np.unpackbits(packed, axis=1, count=width)
    return (np.uint8(1) - bits) * np.uint8(_BYTE)


def _converted(
    blocks: Iterator[npt.NDArray[np.generic]], count: int, largest: int, bands: int
) -> _Pixels:
    """Return the first `count` samples, 0 to `largest`, as 0 to 255."""
    deep = largest > _BYTE and bands == 1
    # Samples are clipped, as some writers exceed what they state.
    scaled = np.arange(_WORD + 1) / largest * (_WORD if deep else _BYTE)
    table = np.rint(scaled).clip(0, _WORD if deep else _BYTE).astype(np.uint16)
    levels = (table >> 8 if deep else table).astype(np.uint8)
    samples, filled = np.empty(count, np.uint8), 0
    for block in blocks:
        part = block[: count - filled]
        samples[filled : filled + len(part)] = levels[part]
        filled += len(part)
        if filled == count:
            return samples
    raise truncated("the PPM image")


def _binary(body: memoryview, largest: int) -> Iterator[npt.NDArray[np.generic]]:
    """Yield samples of one byte, or of two, the high one first."""
    dtype = np.dtype(np.uint8 if largest <= _BYTE else ">u2")
    samples = np.frombuffer(body, dtype, len(body) // dtype.itemsize)
    for start in range(0, len(samples), _BLOCK):
        yield samples[start : start + _BLOCK]


def _numbers(body: bytes) -> Iterator[npt.NDArray[np.generic]]:
    """Yield the numbers of a text."""
    start = 0
    while start < len(body):
        block = body[start : start + _BLOCK]
        start += len(block)
        if start < len(body):  # A number or a comment may go on.
            end = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1 if b"#" in block else 0
            last = _LAST_SPACE.search(block)
            end = end or (last.end() if last else 0)
            if not end:
                raise corrupt("PPM", "a number or comment of a megabyte")
            start -= len(block) - end
            block = block[:end]
        block = _COMMENT.sub(b" ", block)
        if _LONG_NUMBER.search(block):
            raise corrupt("PPM", "a number of more than 10 digits")
        strange = _NO_NUMBER.search(block)
        if strange:  # It may be behind the image.
            block = block[: strange.start()].rstrip(b"0123456789")
        numbers = np.fromstring(block.decode("ascii"), np.int64, sep=" ") if block.strip() else None
        if numbers is not None:
            yield numbers.clip(0, _WORD)
        if strange:
            raise corrupt("PPM", "text that is not a number")
