"""PDQ against hashes of the reference implementation (tests/golden/make_pdq.py)."""

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import skimage.data

from featureid.images.pdq import HASH_BYTES, MAX_DISTANCE, hash_distances, pdq_hash

GOLDEN = json.loads((Path(__file__).parent / "golden" / "pdq.json").read_text("utf-8"))
CROP = (slice(3, 130), slice(7, 92))


def photo(name: str) -> npt.NDArray[np.uint8]:
    pixels: npt.NDArray[np.uint8] = getattr(skimage.data, name)()
    return np.stack([pixels] * 3, axis=-1) if pixels.ndim == 2 else pixels


@pytest.mark.parametrize("case", GOLDEN)
def test_hashes_are_those_of_the_reference(case: str) -> None:
    name, part = case.split()
    found, quality = pdq_hash(photo(name)[CROP] if part == "crop" else photo(name))
    wanted = np.frombuffer(bytes.fromhex(GOLDEN[case]["hash"]), np.uint8)
    assert hash_distances(found, wanted) <= 2
    assert abs(quality - GOLDEN[case]["quality"]) <= 1


def test_copies_are_near_and_other_photos_are_not() -> None:
    pixels = photo("chelsea")
    half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 20])
    gray = np.repeat(pixels.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    found, _ = pdq_hash(pixels)
    compressed = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    for copy in (half, compressed, gray):
        assert hash_distances(found, pdq_hash(np.asarray(copy, np.uint8))[0]) <= MAX_DISTANCE
    others = np.stack([pdq_hash(photo(name))[0] for name in ("astronaut", "coffee", "rocket")])
    assert (hash_distances(found, others) > 2 * MAX_DISTANCE).all()


@pytest.mark.parametrize("shape", [(1, 1), (4, 900), (5, 5), (64, 64), (3000, 5)])
def test_any_size_has_a_hash(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(1)
    found, quality = pdq_hash(random.integers(256, size=(*shape, 3), dtype=np.uint8))
    assert found.shape == (HASH_BYTES,) and found.dtype == np.uint8
    assert (quality == 0) == (min(shape) < 5)


def test_a_picture_without_structure_has_no_quality() -> None:
    assert pdq_hash(np.full((100, 100, 3), 128, np.uint8))[1] == 0


def test_distances_count_bits() -> None:
    ones = np.full(HASH_BYTES, 255, np.uint8)
    some = np.stack([ones, ones * 0, np.r_[ones[:31], np.uint8(254)]])
    assert hash_distances(ones, some).tolist() == [0, 256, 1]
    assert hash_distances(ones, ones[None] * 0).tolist() == [256]
