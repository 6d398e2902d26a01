"""Resizing: any shape, Pillow's own numbers, little memory; what others do before their models."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data as photos

from featureid.images import DecodeLimits, resize, resize_image
from featureid.images.resize import STRETCH, ResizeMethod, ResizePolicy
from featureid.model_input import decode_for, fit_image
from featureid.models import Preprocessing

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
CROP = ResizePolicy("shortest", "bicubic", crop_fraction=0.875)
PAD = ResizePolicy("pad", "bilinear", fill=(0, 128, 255))


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


def cropped(pixels: np.ndarray, size: int, shortest: int, filter_: Image.Resampling) -> np.ndarray:
    """Return what torchvision's ``Resize(shortest)`` and ``CenterCrop(size)`` do to a Pillow image.

    These are the evaluation transforms of timm and open_clip.
    """
    image = Image.fromarray(pixels)
    width, height = image.size
    if width <= height:
        width, height = shortest, int(shortest * height / width)
    else:
        width, height = int(shortest * width / height), shortest
    image = image.resize((width, height), filter_)
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def padded(pixels: np.ndarray, size: int, fill: tuple[int, int, int]) -> np.ndarray:
    """Return what open_clip's ``ResizeKeepRatio(longest=1)`` and ``CenterCropOrPad`` do."""
    image = Image.fromarray(pixels)
    ratio = max(image.width, image.height) / size
    image = image.resize(
        (round(image.width / ratio), round(image.height / ratio)), Image.Resampling.BILINEAR
    )
    canvas = np.empty((size, size, 3), np.uint8)
    canvas[:] = fill
    top, left = (size - image.height) // 2, (size - image.width) // 2
    canvas[top : top + image.height, left : left + image.width] = np.asarray(image)
    return canvas


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize(
    ("size", "shortest"), [(224, 256), (224, 224), (224, 248), (112, 116), (300, 512), (224, 232)]
)
def test_shortest_is_what_torchvision_does(size: int, shortest: int, interpolation: Any) -> None:
    policy = ResizePolicy("shortest", interpolation, size / shortest)
    for pixels in (photos.coffee(), photos.coffee().transpose(1, 0, 2), photos.astronaut()):
        pixels = np.ascontiguousarray(pixels)
        expected = cropped(pixels, size, shortest, FILTERS[interpolation])
        found = resize_image(pixels, size, size, policy)
        assert abs(found.astype(int) - expected).max() <= 1


@pytest.mark.skipif(PIL.__version__ >= "13", reason="Pillow 13 resizes tall images differently")
@pytest.mark.parametrize("method", get_args(ResizeMethod))
def test_pixels_are_those_of_one_call_of_pillow_12(method: Any) -> None:
    policy = ResizePolicy(method, "bicubic", 0.9 if method == "shortest" else 1.0)
    noise = np.random.default_rng(7).integers(0, 256, (700, 500, 3), np.uint8)
    for height, width in ((700, 300), (300, 500), (401, 400), (224, 224), (90, 500), (700, 6)):
        pixels = np.ascontiguousarray(noise[:height, :width])
        found = resize_image(pixels, 224, 160, policy)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(resize, "_resampled", at_once)
            np.testing.assert_array_equal(found, resize_image(pixels, 224, 160, policy))


def at_once(
    image: Image.Image, height: int, width: int, policy: ResizePolicy, box: resize.Box
) -> Image.Image:
    """Resize a part of an image by one call of Pillow."""
    return image.resize((width, height), FILTERS[policy.interpolation], box)


@pytest.mark.parametrize("size", [224, 97])
def test_pad_is_what_open_clip_does(size: int) -> None:
    for pixels in (photos.coffee(), photos.coffee().transpose(1, 0, 2), photos.astronaut()):
        pixels = np.ascontiguousarray(pixels)
        found = resize_image(pixels, size, size, PAD)
        np.testing.assert_array_equal(found, padded(pixels, size, PAD.fill))


def test_the_interpolation_of_stretch_is_pillows() -> None:
    pixels = photos.astronaut()
    expected = np.asarray(Image.fromarray(pixels).resize((160, 120), Image.Resampling.BILINEAR))
    found = resize_image(pixels, 120, 160, replace(STRETCH, interpolation="bilinear"))
    np.testing.assert_array_equal(found, expected)


@given(
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    rows=st.integers(1, 60),
    columns=st.integers(1, 60),
    fraction=st.floats(0.05, 1),
)
def test_every_policy_gives_the_size_from_any_shape(
    height: int, width: int, rows: int, columns: int, fraction: float
) -> None:
    pixels = np.full((height, width, 3), (10, 200, 77), np.uint8)
    for policy in (STRETCH, replace(CROP, crop_fraction=fraction), PAD):
        result = resize_image(pixels, rows, columns, policy)
        assert result.shape == (rows, columns, 3) and result.flags.c_contiguous
        inside = (result == (10, 200, 77)).all(-1)
        if policy is PAD:
            assert inside.any() and (result[~inside] == PAD.fill).all()
            assert inside.all(1).any() or inside.all(0).any()
        else:
            assert inside.all()


def test_a_crop_of_a_long_image_needs_little_memory() -> None:
    # The whole would be 224 x 112,000,000 pixels.
    long = np.zeros((2, 1_000_000, 3), np.uint8)
    long[:, 499_000:501_000] = 255
    assert (resize_image(long, 224, 224, CROP) == 255).all()
    assert resize_image(long, 224, 224, PAD)[112].max() > 0


def test_a_large_jpeg_is_decoded_no_smaller_than_twice_what_it_is_resized_to() -> None:
    buffer = io.BytesIO()
    Image.fromarray(photos.astronaut()).resize((1600, 1200)).save(buffer, "JPEG", quality=95)
    preprocessing = Preprocessing(64, 64, (0,) * 3, (1,) * 3, CROP, 2)
    image = decode_for(buffer.getvalue(), preprocessing, DecodeLimits())
    assert image.pixels.shape == (150, 200, 3)  # the shortest side becomes 73
    ((_, found),) = fit_image(image, preprocessing, None)
    full = np.asarray(Image.open(buffer).convert("RGB"))
    expected = resize_image(full, 64, 64, CROP)
    assert abs(found.astype(int) - expected).mean() < 1
    image = decode_for(buffer.getvalue(), replace(preprocessing, resize=STRETCH), DecodeLimits())
    assert image.pixels.shape == (150, 200, 3)
    smaller = replace(preprocessing, resize=replace(CROP, crop_fraction=0.5))
    assert decode_for(buffer.getvalue(), smaller, DecodeLimits()).pixels.shape == (300, 400, 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "crop"}, "unknown resize method 'crop'; known: stretch, shortest, pad"),
        ({"interpolation": "nearest"}, "unknown interpolation 'nearest'"),
        ({"crop_fraction": 0.0, "method": "shortest"}, "above 0 and at most 1, got 0"),
        ({"crop_fraction": 1.1, "method": "shortest"}, "above 0 and at most 1, got 1.1"),
        ({"crop_fraction": float("nan"), "method": "shortest"}, "above 0 and at most 1, got nan"),
        ({"crop_fraction": 0.9}, "crop_fraction belongs to shortest, not to stretch"),
        ({"fill": (0, 0, 256), "method": "pad"}, "fill must be from 0 to 255"),
        ({"fill": (1, 0, 0), "method": "shortest"}, "fill belongs to pad, not to shortest"),
    ],
)
def test_an_invalid_policy_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResizePolicy(**{"method": "stretch", "interpolation": "bicubic", **fields})
