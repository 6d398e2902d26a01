"""PDQ, a perceptual hash: 256 bits that hardly change when an image is resized or compressed.

After the algorithm that Meta has published with its reference implementation (Davis and Rosen, "The
TMK+PDQF Video-Hashing Algorithm and the PDQ Image-Hashing Algorithm", 2019, in
github.com/facebook/ThreatExchange): luminance, two passes of a box filter along rows and columns,
64 × 64 samples, the 16 × 16 lowest frequencies of their discrete cosine transform without the
constant one, and for each of them a bit, whether it is above the median. Images that show the same
thing have hashes that differ in at most :data:`MAX_DISTANCE` bits.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt

HASH_BYTES = 32
#: Bits in which the hashes of two copies of an image may differ, as Meta recommends.
MAX_DISTANCE = 31
#: Hashes of a lower quality say too little to be compared, as Meta recommends.
MIN_QUALITY = 50

Hash = npt.NDArray[np.uint8]
_Plane = npt.NDArray[np.float32]

_SIDE = 64
_FREQUENCIES = 16
_PASSES = 2
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)
_QUALITY_SCALE = 90
_MIN_SIDE = 5
# The shorter side to which larger images are reduced: as exact as JPEG's own reduction.
_REDUCED_SIDE = 512


def image_hash(pixels: npt.NDArray[np.uint8]) -> tuple[Hash, int]:
    """Return the hash of an image of any size in bounded time, and its quality.

    An image whose shorter side has 1,024 pixels or more is reduced first, each pixel the mean of a
    square of pixels. That, or decoding a JPEG file at a reduced scale, changes some 4 bits.

    Args:
        pixels: uint8 (h, w, 3) RGB, upright.

    Returns:
        What :func:`pdq_hash` returns.
    """
    import cv2

    height, width = pixels.shape[:2]
    factor = min(height, width) // _REDUCED_SIDE
    if factor > 1:
        size = width // factor, height // factor
        # Whole squares only: a factor that is an integer is several times as fast as another.
        whole = pixels[: size[1] * factor, : size[0] * factor]
        pixels = np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pdq_hash(pixels)


def pdq_hash(pixels: npt.NDArray[np.uint8]) -> tuple[Hash, int]:
    """Return the hash of an image, and how much of a hash it can have.

    Args:
        pixels: uint8 (h, w, 3) RGB, upright.

    Returns:
        uint8 (32,), the bits in the order in which PDQ hashes are written; and the quality, from 0,
        a picture without structure whose hash says nothing, to 100. The quality is 0, and all bits
        are, for an image with fewer than 5 rows or columns.
    """
    if min(pixels.shape[:2]) < _MIN_SIDE:
        return np.zeros(HASH_BYTES, np.uint8), 0
    samples = _samples(pixels)
    transform = _transform()
    coefficients = transform @ samples @ transform.T
    # The lower one of the two in the middle, as in the reference.
    median = np.partition(coefficients, coefficients.size // 2 - 1, axis=None)[
        coefficients.size // 2 - 1
    ]
    bits = (coefficients > median).ravel()
    return np.packbits(bits[::-1]), _quality(samples)


def hash_distances(one: Hash, others: Hash) -> npt.NDArray[np.intp]:
    """Return in how many bits a hash, (32,), differs from each of others, (n, 32)."""
    different = np.bitwise_count(one.view(np.uint64) ^ others.view(np.uint64))
    distances: npt.NDArray[np.intp] = different.sum(axis=-1, dtype=np.intp)
    return distances


def _samples(pixels: npt.NDArray[np.uint8]) -> _Plane:
    """Return the smoothed luminance of an image, (64, 64)."""
    import cv2

    luma = cv2.transform(pixels.astype(np.float32), _LUMA)
    height, width = luma.shape
    size = _window(width), _window(height)
    # OpenCV sums up zeros beyond the edge; divided by the number of pixels, it is their mean.
    anchor = size[0] - _half(size[0]), size[1] - _half(size[1])
    counts = [_counts(length, window) for length, window in ((height, size[1]), (width, size[0]))]
    inside = 1 / np.outer(*counts).astype(np.float32)
    for _ in range(_PASSES):
        luma = cv2.boxFilter(luma, cv2.CV_32F, size, None, anchor, False, cv2.BORDER_CONSTANT)
        luma *= inside
    rows, columns = (
        ((np.arange(_SIDE) + 0.5) * length / _SIDE).astype(np.intp) for length in (height, width)
    )
    samples: _Plane = luma[np.ix_(rows, columns)]
    return samples


def _window(length: int) -> int:
    return (length + 2 * _SIDE - 1) // (2 * _SIDE)


def _half(window: int) -> int:
    """Return how many pixels of a window are not before its place."""
    return (window + 2) // 2


def _counts(length: int, window: int) -> npt.NDArray[np.intp]:
    """Return how many pixels of the image are in the window at each place, (length,)."""
    places = np.arange(length)
    first = np.maximum(0, places - (window - _half(window)))
    return np.minimum(length, places + _half(window)) - first


@functools.cache
def _transform() -> _Plane:
    """Return the lowest frequencies of the cosine transform but the constant one, (16, 64)."""
    frequencies = np.arange(1, _FREQUENCIES + 1)[:, np.newaxis]
    phases = np.pi / 2 / _SIDE * frequencies * (2 * np.arange(_SIDE) + 1)
    transform: _Plane = (np.sqrt(2 / _SIDE) * np.cos(phases)).astype(np.float32)
    return transform


def _quality(samples: _Plane) -> int:
    """Return the sum of all steps between neighbors, scaled and cut off as in the reference."""
    steps = sum(
        int(np.abs(np.trunc(np.diff(samples, axis=axis) * 100 / 255)).sum()) for axis in (0, 1)
    )
    return min(100, steps // _QUALITY_SCALE)
