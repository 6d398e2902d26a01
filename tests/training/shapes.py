"""Small pictures that are quickly learned from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDE = 24


def shapes(classes: int, images: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]:
    """Return noisy images of stripes, of another direction in each class.

    Returns:
        uint8 (classes · images, 24, 24, 3), and the class of each.
    """
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIDE, :SIDE]
    found = []
    for number in range(classes):
        angle = np.pi * number * 5 / 12
        for _ in range(images):
            phase = rng.uniform(0, 2 * np.pi)
            wave = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 0.9 + phase)
            brightness, contrast = rng.uniform(80, 170), rng.uniform(20, 60)
            pixels = brightness + contrast * wave[..., None] + rng.normal(0, 25, (SIDE, SIDE, 3))
            found.append(np.clip(pixels, 0, 255).astype(np.uint8))
    return np.stack(found), np.repeat(np.arange(classes), images)
