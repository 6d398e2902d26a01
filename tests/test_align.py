"""Alignment: the transform is the least-squares one, and pixels move as it says."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from featureid.images.align import box_transform, similarity_transform, warp

numbers = st.floats(-500, 500)
points = st.lists(st.tuples(numbers, numbers), min_size=2, max_size=5)
EYES = [(40.0, 40.0), (110.0, 40.0), (75.0, 90.0)]


def apply(matrix: np.ndarray, places: object) -> np.ndarray:
    xy = np.array(places, np.float64)
    return np.asarray(xy @ matrix[:, :2].T + matrix[:, 2])


@given(points, st.floats(0.1, 8), st.floats(-3.1, 3.1), numbers, numbers)
def test_a_similarity_is_found_again(
    source: list[tuple[float, float]], scale: float, angle: float, x: float, y: float
) -> None:
    if np.ptp(np.array(source), axis=0).max() < 1:
        return
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wanted = np.column_stack([turn, [x, y]])
    target = [tuple(place) for place in apply(wanted, source)]
    np.testing.assert_allclose(similarity_transform(source, target), wanted, atol=1e-6)


@given(st.integers(0, 2**32))
def test_no_other_similarity_is_closer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.uniform(0, 100, (2, 5, 2))
    best = similarity_transform(source.tolist(), target.tolist())
    a, b = best[0, 0], best[1, 0]
    np.testing.assert_allclose(best[:, :2], [[a, -b], [b, a]])

    def error(matrix: np.ndarray) -> float:
        return float(np.sum((apply(matrix, source) - target) ** 2))

    for change in rng.normal(0, 0.01, (20, 4)):
        p, q = a + change[0], b + change[1]
        shift = best[:, 2] + change[2:]
        assert error(best) <= error(np.column_stack([[[p, -q], [q, p]], shift])) + 1e-9


def test_a_mirrored_face_is_not_mirrored_back() -> None:
    matrix = similarity_transform(EYES, [(-x, y) for x, y in EYES])
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize("source", [[], [(1.0, 1.0)], [(2.0, 3.0)] * 3])
def test_points_without_a_direction_are_refused(source: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="points"):
        similarity_transform(source, EYES[: len(source)])
    with pytest.raises(ValueError, match="2 points cannot be moved to 3"):
        similarity_transform(EYES[:2], EYES)


def test_the_square_around_a_box_fills_the_result() -> None:
    matrix = box_transform((100, 200, 160, 240), 0.25, 150, 150)
    # 60 wide: a square of 90 around (130, 220).
    edges = [(85, 175), (175, 265), (130, 220)]
    np.testing.assert_allclose(apply(matrix, edges), [(0, 0), (150, 150), (75, 75)])


def test_nothing_moves_under_the_identity() -> None:
    photo = skimage.data.astronaut()
    identity = np.array([[1.0, 0, 0], [0, 1.0, 0]])
    np.testing.assert_array_equal(warp(photo, identity, 512, 512), photo)
    shifted = warp(photo, identity - [[0, 0, 100], [0, 0, 50]], 80, 60)
    np.testing.assert_array_equal(shifted, photo[50:110, 100:180])


def test_what_lies_outside_is_black() -> None:
    white = np.full((40, 40, 3), 255, np.uint8)
    result = warp(white, np.array([[1.0, 0, 30], [0, 1.0, 0]]), 100, 20)
    assert not result[:, :30].any() and not result[:, 70:].any()
    assert (result[:, 30:70] == 255).all()
    for box in ((500, 500, 900, 900), (5000.0, 0.0, 5010.0, 10.0)):
        assert not warp(white, box_transform(box, 0, 50, 50), 50, 50).any()


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_a_large_face_is_averaged_and_stays_in_place(factor: int) -> None:
    photo = Image.fromarray(skimage.data.astronaut())
    side = 512 * factor
    large = np.array(photo.resize((side, side), Image.Resampling.BICUBIC))
    # Skipping pixels keeps all of the noise, averaging reduces it.
    noise = np.random.default_rng(0).choice([-60, 60], large.shape)
    noisy = np.clip(large.astype(int) // 2 + 64 + noise, 0, 255).astype(np.uint8)
    box = (150.0 * factor, 50.0 * factor, 300.0 * factor, 200.0 * factor)
    result = warp(noisy, box_transform(box, 0, 150, 150), 150, 150)
    wanted = np.array(photo.crop((150, 50, 300, 200)), np.float64) // 2 + 64
    assert np.abs(result - wanted).mean() < 60 / factor
    shifted = np.array(photo.crop((151, 50, 301, 200)), np.float64) // 2 + 64
    clean = warp(large // 2 + 64, box_transform(box, 0, 150, 150), 150, 150)
    assert np.abs(clean - wanted).mean() < np.abs(clean - shifted).mean() / 3


def test_a_large_face_past_the_border_is_cut_in_the_right_place() -> None:
    white = np.full((1000, 1000, 3), 255, np.uint8)
    result = warp(white, box_transform((-500, 400, 400, 1300), 0, 90, 90), 90, 90)
    inside = result[:, :, 0] > 127
    assert inside[:60, 50:].all() and not inside[:, :50].any() and not inside[60:].any()
