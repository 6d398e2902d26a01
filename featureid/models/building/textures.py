"""Made-up images with the statistics of photos, to try models on where no photos are at hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

_SEED = 112_358
_EDGES = 6


def textured_images(count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Return images of colored noise at all scales, as in photos, crossed by sharp edges.

    Args:
        count: number of images, always the same ones.
        height: of each.
        width: of each.

    Returns:
        uint8 (count, height, width, 3).
    """
    rng = np.random.default_rng(_SEED)
    return np.stack([_texture(rng, height, width) for _ in range(count)])


def _texture(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3))
    cells = 2
    while cells <= max(height, width):
        # Twice the frequency has half the amplitude: the spectrum of photos falls as 1 / f.
        noise = (rng.random((cells, cells, 3)) * 255).astype(np.uint8)
        scaled = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(scaled, np.float64) - 127.5) / cells
        cells *= 2
    for _ in range(_EDGES):
        top, left = rng.integers(0, (height, width))
        bottom, right = rng.integers((top, left), (height, width), endpoint=True)
        pixels[top:bottom, left:right] += rng.uniform(-60, 60, 3)
    return np.clip(pixels * 1.5 + rng.uniform(60, 190, 3), 0, 255).astype(np.uint8)
