"""An image for which there is not enough memory is no damaged image, and ends no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data as photos

from featureid.embedding import infer_each
from featureid.errors import ImageError
from featureid.images.failures import lacks_memory
from tests.image_files import FILES, encode, heic

ROOT = Path(__file__).parents[1]
# So that memory which is freed is given back, and each image begins with as little.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def large_files() -> dict[str, bytes]:
    """Return a photo of 1.8 megapixels in many formats."""
    photo = Image.fromarray(photos.astronaut()).resize((1500, 1200))
    alpha = photo.copy()
    alpha.putalpha(photo.convert("L"))
    return {
        "bmp": encode(photo, "BMP"),
        "jpeg cmyk": encode(photo.convert("CMYK"), "JPEG"),
        "png transparent": encode(alpha, "PNG", compress_level=1),
        "ppm": encode(photo, "PPM"),
        "tiff": encode(photo, "TIFF"),
        "tiff lzw": encode(photo, "TIFF", compression="tiff_lzw"),
        "webp": encode(photo, "WEBP", method=0),
        "zz heic": heic(photo),
        **({"avif": encode(photo, "AVIF", speed=10)} if "avif" in FILES else {}),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the address space")
def test_a_decoder_that_gets_no_memory_says_so(tmp_path: Path) -> None:
    for name, data in large_files().items():
        (tmp_path / name).write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "tests.decode_with_little_memory", tmp_path],
        cwd=ROOT,
        env={**os.environ, **GIVEN_BACK},
        capture_output=True,
        check=True,
    )
    lacking = 0
    for name, outcomes in json.loads(done.stdout).items():
        assert set(outcomes) <= {"no-memory", "decoded"}, (name, outcomes)
        assert outcomes[-1] == "decoded"
        lacking += "no-memory" in outcomes
    assert lacking >= 6  # others may find what was free


@pytest.mark.parametrize(
    "message",
    [
        "CUDA failure 2: out of memory",
        "Failed to allocate memory for requested buffer of size 1073741824",
        "std::bad_alloc",
        "OpenCV(4.13.0) error: (-4:Insufficient memory) Failed to allocate 1 bytes",
    ],
)
def test_a_model_that_gets_no_memory_says_so(message: str) -> None:
    def infer(batch: np.ndarray) -> np.ndarray:
        if len(batch) > 2:
            raise RuntimeError(message)
        if batch.max() > 5:
            raise MemoryError
        return np.ones((len(batch), 3), np.float32)

    batch = np.array([1, 2, 3, 9], np.uint8)[:, None, None, None]
    *good, bad = infer_each(infer, batch)
    assert all(isinstance(vector, np.ndarray) for vector in good)
    assert isinstance(bad, ImageError) and (bad.stage, bad.reason) == ("embed", "no-memory")
    assert lacks_memory(RuntimeError(message)) and not lacks_memory(ValueError("bad shape"))
