"""Rows that search and duplicates are measured on; not a benchmark itself.

Realistic rows are made without photos: smooth functions of 12 numbers, the intrinsic dimension of
embeddings of photos.  The scores of two of them are about ``exp(-distance² / 6)`` of their numbers
(random Fourier features: Rahimi and Recht, 2007), so that most rows have some near neighbors, and
two in 10 million pairs score 0.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

import featureid

DIMENSION = 128
_INTRINSIC = 12
_WIDTH = 3**0.5
_ROWS_AT_ONCE = 1 << 16
_PHOTOS = 2000

Matrix = npt.NDArray[np.float32]
Generator = np.random.Generator


def unit(vectors: npt.NDArray[Any]) -> Matrix:
    """Return rows divided by their lengths, float32."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    rows: Matrix = (vectors / lengths).astype(np.float32)
    return rows


def realistic(rows: int, random: Generator) -> Matrix:
    """Return float32 (rows, 128) unit vectors; see above."""
    map_random = np.random.default_rng(0)  # the same for all
    frequencies = map_random.standard_normal((_INTRINSIC, DIMENSION)).astype(np.float32) / _WIDTH
    phases = map_random.uniform(0, 2 * np.pi, DIMENSION).astype(np.float32)

    def some(count: int) -> Matrix:
        numbers = random.standard_normal((count, _INTRINSIC), dtype=np.float32)
        return unit(np.cos(numbers @ frequencies + phases))

    return _in_parts(rows, some)


def white_noise(rows: int, random: Generator) -> Matrix:
    """Return float32 (rows, 128) unit vectors in directions without any structure."""
    return _in_parts(
        rows, lambda count: unit(random.standard_normal((count, DIMENSION), dtype=np.float32))
    )


@dataclass(frozen=True)
class PhotoRows:
    """Makes rows that resemble the vectors of some photos.

    A row is a mixture of the vectors of two photos, and of how the vector of another one changes
    when a tenth of it is cut off.

    Attributes:
        vectors: float32 (n, 128).
        changes: float32 (n, 128).
    """

    vectors: Matrix
    changes: Matrix

    @classmethod
    def of(cls, photos: Iterable[Image.Image]) -> PhotoRows:
        """Embed photos, at most 2,000, whole and cropped."""
        some = [*islice(photos, _PHOTOS)]
        cropped = [ImageOps.crop(photo, min(photo.size) // 20) for photo in some]
        vectors = featureid.embed_images(some)
        return cls(vectors, featureid.embed_images(cropped) - vectors)

    def __call__(self, rows: int, random: Generator) -> Matrix:
        """Return float32 (rows, 128) unit vectors."""

        def some(count: int) -> Matrix:
            one, other, third = random.integers(len(self.vectors), size=(3, count))
            share = random.uniform(0, 1, (count, 1)).astype(np.float32)
            mixed = share * self.vectors[one] + (1 - share) * self.vectors[other]
            return unit(mixed + random.uniform(0, 1, (count, 1)) * self.changes[third])

        return _in_parts(rows, some)


def views(vectors: Matrix, scores: npt.NDArray[np.floating], random: Generator) -> Matrix:
    """Return for each vector one that scores so high with it, as an edited copy of an image does.

    Args:
        vectors: float32 (n, 128).
        scores: floats (n,).
        random: where the direction of the change comes from.
    """
    noise = random.standard_normal(vectors.shape, dtype=np.float32)
    noise -= np.einsum("ij,ij->i", noise, vectors)[:, np.newaxis] * vectors
    wanted = np.asarray(scores, np.float32)[:, np.newaxis]
    return unit(wanted * vectors + np.sqrt(1 - wanted**2) * unit(noise))


def _in_parts(rows: int, make: Callable[[int], Matrix]) -> Matrix:
    out = np.empty((rows, DIMENSION), np.float32)
    for start in range(0, rows, _ROWS_AT_ONCE):
        part = out[start : start + _ROWS_AT_ONCE]
        part[:] = make(len(part))
    return out
