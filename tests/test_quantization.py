"""Networks of 8-bit integers, made by ONNX Runtime's tool from those of other people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featureid.add_model import AddOptions, add_model
from featureid.errors import UsageError
from featureid.models.building.preprocess_config import PixelOptions
from featureid.models.building.quantization import FEWEST_IMAGES, Likeness, likeness
from featureid.models.building.textures import textured_images
from tests.foreign_networks import convolutional


@given(st.integers(1, 9), st.integers(1, 5), st.floats(1e-3, 1e3), st.integers(0, 2**32 - 1))
def test_vectors_are_as_near_as_their_directions(n: int, d: int, scale: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    same = likeness(vectors, vectors * np.float32(scale))
    assert same.images == n and same.lowest == pytest.approx(1, abs=1e-6)
    assert likeness(vectors, -vectors).median == pytest.approx(-1, abs=1e-6)
    assert likeness(vectors, np.zeros_like(vectors)) == Likeness(n, 0, 0)


def samples(folder: Path, count: int) -> str:
    """Return a folder with different images."""
    folder.mkdir()
    for number, pixels in enumerate(textured_images(count, 48, 40)):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return str(folder)


def test_a_network_is_quantized_by_the_users_images(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(convolutional(16, "nhwc", "uint8", batch=4))
    images = samples(tmp_path / "images", FEWEST_IMAGES + 1)
    added = add_model(AddOptions(str(file), "mine", quantize=True, samples=images))
    assert added.bundle.architecture == "ONNX network, 8-bit integers"
    assert b"DequantizeLinear" in added.bundle.network.data
    assert added.tried.independent
    found = added.likeness
    assert found is not None and found.images == FEWEST_IMAGES // 2
    assert 0.99 < found.lowest <= found.median < 1  # near, and not the same


def test_what_cannot_be_quantized_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`quantize` measures ranges in images; give some with"):
        AddOptions("net.onnx", "mine", quantize=True)
    with pytest.raises(UsageError, match="`quantize` is for ONNX files"):
        AddOptions("net.tflite", "mine", quantize=True, samples="images")
    file = tmp_path / "net.onnx"
    file.write_bytes(convolutional(4))
    options = AddOptions(
        str(file),
        "mine",
        pixels=PixelOptions(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0)),
        quantize=True,
        samples=samples(tmp_path / "images", 3),
    )
    with pytest.raises(UsageError, match=r"needs 20 different images .* better 240; there are 3"):
        add_model(options)
