"""Resizing: any shape, Pillow's own numbers, little memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from skimage import data as photos

from featureid.images import resize_image


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 5000), (5000, 1), (2, 3), (224, 224), (37, 1000), (1000, 37)]
)
def test_any_shape_becomes_the_asked_size(shape: tuple[int, int]) -> None:
    pixels = np.full((*shape, 3), (10, 200, 77), np.uint8)
    result = resize_image(pixels, 31, 47)
    assert result.shape == (31, 47, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous
    assert (result == (10, 200, 77)).all()


def test_equals_pillow_with_its_own_default() -> None:
    pixels = photos.astronaut()
    expected = np.asarray(Image.fromarray(pixels).resize((160, 120)))
    np.testing.assert_array_equal(resize_image(pixels, 120, 160), expected)


def test_fine_stripes_are_averaged_not_sampled() -> None:
    stripes = np.zeros((64, 640, 3), np.uint8)
    stripes[:, ::2] = 255
    inner = resize_image(stripes, 8, 64)[:, 4:-4].astype(int)
    assert abs(inner - 127).max() <= 3


def test_views_are_accepted_and_never_returned() -> None:
    pixels = photos.chelsea()[::-1, ::2]
    before = pixels.copy()
    result = resize_image(pixels, *pixels.shape[:2])
    np.testing.assert_array_equal(result, before)
    result[:] = 0
    np.testing.assert_array_equal(pixels, before)


def test_a_very_tall_image_needs_little_memory() -> None:
    # Rows first would need an intermediate of 2,000,000 x 1,000 pixels: 8 GB.
    tall = np.repeat(np.array([0, 255], np.uint8), 1_000_000)[:, None, None].repeat(3, axis=2)
    result = resize_image(tall, 4, 1000)
    assert result.shape == (4, 1000, 3)
    assert (result[0] == 0).all()
    assert (result[3] == 255).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_arrays_are_refused(pixels: npt.NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="pixels must be"):
        resize_image(pixels, 2, 2)


@pytest.mark.parametrize("size", [(0, 2), (2, -1)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        resize_image(np.zeros((4, 4, 3), np.uint8), *size)
